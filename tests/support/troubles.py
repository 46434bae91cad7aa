"""Troubles that keep DVC from recording a finished training: from the stage's end to the command's."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.support.repository import Repository

HOLD_LOCK = """
import sys
from dvc.repo import Repo

with Repo().lock:
    print("held", flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Trouble:
    """One of `TROUBLES`, while the command runs that finishes the training; and what came of it."""

    name: str
    command: tuple[str, ...]  # of dvc
    identical: bool = False


@contextlib.contextmanager
def lock_held(repository: Repository) -> Iterator[None]:
    """Hold DVC's lock, as `dvc status` or `dvc push` in another terminal do."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK], cwd=repository.path, env=repository.environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate()


def cache_on(options: str) -> Callable[[Repository], AbstractContextManager[None]]:
    """Mount a disk with these options over DVC's cache; its content reappears afterwards."""

    @contextlib.contextmanager
    def mounted(repository: Repository) -> Iterator[None]:
        cache = str(repository.path / ".dvc/cache/files")
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", cache], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", cache], check=True)

    return mounted


# What DVC says then, and how it comes about.
TROUBLES: dict[str, tuple[str, Callable[[Repository], AbstractContextManager[None]]]] = {
    "lock held by another": ("Unable to acquire lock", lock_held),
    "cache's disk full": ("No space left on device", cache_on("size=4k")),
    "cache read-only": ("Read-only file system", cache_on("size=4k,ro")),
}
