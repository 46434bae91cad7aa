"""Which saved states stay, and how the others go: `make state` shows them, `make clean-state` frees the finished ones.

A finished training keeps its last state until others push it out, for nobody tells it when DVC has recorded its
results: should DVC fail to, they are written again from that state. Interrupted trainings are the user's work and stay.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tinystories.common import paths
from tinystories.common.console import info
from tinystories.common.errors import UserError
from tinystories.training.resume import Progress, ResumeCheckpoint, read_state, sweep

KEPT = 8  # finished states: more do not end at once, in a queue of experiments, before DVC records the first
LARGEST = 4 * 2**30  # bytes of them together: 50 of the reference model


@dataclass(frozen=True)
class Kept:
    """What stands of one training. `progress` is None where no record can be read; `saved` is a time of the epoch."""

    directory: Path
    progress: Progress | None
    size: int  # bytes, of all that stands there
    saved: float

    @property
    def key(self) -> str:
        return self.directory.name

    @property
    def finished(self) -> bool:
        return self.progress is not None and self.progress.ended is not None


def kept_states(parent: Path) -> list[Kept]:
    """All in the directory `parent`, newest first."""
    found = [_look(path) for path in parent.glob("[!.]*") if path.is_dir()]
    return sorted(found, key=lambda kept: kept.saved, reverse=True)


def _look(directory: Path) -> Kept:
    """Others may work there meanwhile: what goes away under our eyes is not counted."""
    size, saved, progress = 0, 0.0, None
    with suppress(OSError):
        for path in directory.rglob("*"):
            if path.is_file():
                status = path.stat()
                size, saved = size + status.st_size, max(saved, status.st_mtime)
    with suppress(UserError, OSError, IndexError):
        progress = read_state(ResumeCheckpoint(directory).saved()[0])
    return Kept(directory, progress, size, saved)


def prune(parent: Path, own: str) -> None:
    """Of the finished states keep the newest, `KEPT` of them with `LARGEST` bytes; that of the key `own` always."""
    states = [kept for kept in kept_states(parent) if kept.finished]
    states.sort(key=lambda kept: kept.key != own)  # its own first
    size = 0
    for number, kept in enumerate(states, start=1):
        size += kept.size
        if kept.key != own and (number > KEPT or size > LARGEST):
            _free(kept)


def _free(kept: Kept) -> bool:
    """Remove it. False where a training has it now, or went on with it after `kept` was seen, or it may not go."""
    with _unless_running(kept) as mine:
        if not mine or _look(kept.directory).finished != kept.finished:
            return False
        ResumeCheckpoint(kept.directory).remove()
    return not kept.directory.exists()


@contextmanager
def _unless_running(kept: Kept) -> Iterator[bool]:
    """Keep trainings of its key out, where none is at it: then True. The lock file stays, see `file_lock`."""
    lock = FileLock(kept.directory.with_name(f"{kept.key}.lock"))
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):  # another user's
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def describe(kept: Kept) -> str:
    """One line: key, steps, how it stands, size, time."""
    steps, how = "?", "not readable"
    if kept.progress:
        steps, how = f"{kept.progress.step:,}", "finished" if kept.finished else "interrupted"
    with _unless_running(kept) as mine:
        how = how if mine else "running"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.saved))
    return f"{kept.key[:12]:12}  {steps:>11} steps  {how:12}  {kept.size / 1e6:>9,.1f} MB  {when}"


def main(arguments: list[str] | None = None) -> None:
    """Show what is kept; with `--free` remove the finished ones, with `--free --all` those of interrupted ones too."""
    options = argparse.ArgumentParser(prog="python -m tinystories.training.retention", description=main.__doc__)
    options.add_argument("--free", action="store_true", help="remove the states of finished trainings")
    options.add_argument("--all", action="store_true", help="with --free: also those that could still go on")
    chosen = options.parse_args(arguments)
    parent = paths.training_states()
    states = kept_states(parent)
    for kept in states:
        info(describe(kept))
    if chosen.free:
        sweep(parent)
        freed = [kept for kept in states if (chosen.all or kept.finished) and _free(kept)]
        info(f"Freed {len(freed)} of {len(states)} saved states, {sum(kept.size for kept in freed) / 1e6:,.1f} MB.")
        if not chosen.all and any(not kept.finished for kept in states):
            info("What is not finished stays, for a training goes on from it; ARGS=--all frees it too.")
    elif not states:
        info(f"{parent}: no saved states")


if __name__ == "__main__":
    main()
