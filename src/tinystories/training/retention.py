"""Retention of saved states: which stay. `tinystories state` lists them, and frees those of finished trainings.

A finished training keeps its last state until newer ones push it out. Nothing tells the training when DVC has recorded
its results; should DVC fail to, they are written again from that state. Interrupted trainings are always kept. Trunks
(see `trunk`) are kept within the bounds that params.yaml sets.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tinystories.common.errors import UserError
from tinystories.training.resume import ResumeCheckpoint, TrainerState, read_state

# Of a queue of experiments, no more than this many end at once before DVC records the first.
MAX_FINISHED = 8
MAX_FINISHED_BYTES = 4 * 2**30  # of all finished ones together: 35 of the reference run


@dataclass(frozen=True)
class SavedTraining:
    """What is saved of one training. `state` is None if it cannot be read."""

    directory: Path
    state: TrainerState | None
    size: int  # bytes of all its files
    saved_at: float  # seconds since 1970

    @property
    def key(self) -> str:
        return self.directory.name

    @property
    def finished(self) -> bool:
        return self.state is not None and self.state.ended is not None


def saved_trainings(parent: Path) -> list[SavedTraining]:
    """All in the directory `parent`, newest first."""
    found = [_inspect(path) for path in parent.glob("[!.]*") if path.is_dir()]
    return sorted(found, key=lambda saved: saved.saved_at, reverse=True)


def _inspect(directory: Path) -> SavedTraining:
    """Read what is saved in the directory. Files that another process removes meanwhile are not counted."""
    size, saved_at, state = 0, 0.0, None
    with suppress(OSError):
        for path in directory.rglob("*"):
            if path.is_file():
                status = path.stat()
                size, saved_at = size + status.st_size, max(saved_at, status.st_mtime)
    with suppress(UserError, OSError, IndexError):
        state = read_state(ResumeCheckpoint(directory).saved()[0])
    return SavedTraining(directory, state, size, saved_at)


def prune(parent: Path, own: str) -> None:
    """Remove finished trainings beyond MAX_FINISHED or MAX_FINISHED_BYTES, oldest first, but never the key `own`."""
    finished = [saved for saved in saved_trainings(parent) if saved.finished]
    finished.sort(key=lambda saved: saved.key != own)  # its own first
    size = 0
    for number, saved in enumerate(finished, start=1):
        size += saved.size
        if saved.key != own and (number > MAX_FINISHED or size > MAX_FINISHED_BYTES):
            free(saved)


def prune_trunks(parent: Path, number: int, size: float) -> None:
    """Remove kept trunks beyond this number or these bytes together, the longest unused first, and incomplete ones."""
    for saved in saved_trainings(parent):
        number -= saved.state is not None
        size -= saved.size
        if saved.state is None or number < 0 or size < 0:
            free(saved)


def free(saved: SavedTraining) -> bool:
    """Remove it. Returns False if it is running, has changed since `saved` was read, or may not be removed."""
    with _try_lock(saved) as locked:
        if not locked or _inspect(saved.directory).finished != saved.finished:
            return False
        ResumeCheckpoint(saved.directory).remove()
    return not saved.directory.exists()


@contextmanager
def _try_lock(saved: SavedTraining) -> Iterator[bool]:
    """Hold the training's lock. Yields False if another process has it. The lock file stays, see `file_lock`."""
    lock = FileLock(saved.directory.with_name(f"{saved.key}.lock"))
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):  # OSError: another user's file
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def describe(saved: SavedTraining, is_trunk: bool = False) -> str:
    """One line: key, steps, status, size, time."""
    steps, status = "?", "not readable"
    if saved.state:
        steps, status = f"{saved.state.step:,}", "finished" if saved.finished else "interrupted"
        status = "trunk" if is_trunk else status
    with _try_lock(saved) as locked:
        status = status if locked or is_trunk else "running"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(saved.saved_at))
    return f"{saved.key[:12]:12}  {steps:>11} steps  {status:12}  {saved.size / 1e6:>9,.1f} MB  {when}"
