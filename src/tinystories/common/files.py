"""Writing files whole or not at all, by one process at a time."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from tinystories.common.console import info

if TYPE_CHECKING:
    from torch import Tensor

COPY_BLOCK = 1 << 20  # bytes
_UMASK = os.umask(0o077)  # it can only be read by setting it; once, before there are threads
os.umask(_UMASK)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing bytes; it appears under its name only when the block ends without an error.

    The bytes go to a neighbour `.NAME.part`, are flushed to the disk, and are then renamed into place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with with_filename(path), part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):  # which would hide what went wrong first
            part.unlink()
        raise


def settle_mode(path: Path) -> None:
    """Give a file the mode of any new one: some libraries make theirs private, others copy their source's.

    What DVC keeps for itself is read-only where it links its cache (`cache.type hardlink,symlink`).
    """
    path.chmod(0o666 & ~_UMASK)


def copy_file(source: Path, target: Path) -> None:
    """Copy bytes, whole or not at all."""
    with source.open("rb") as file, atomic_write(target) as copy:
        shutil.copyfileobj(file, copy, COPY_BLOCK)


def link_file(source: Path, target: Path) -> None:
    """Let `target` be the same file as `source`, which takes no room on the disk; where that cannot be, a copy.

    For files that nobody changes in place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        copy_file(source, target)


@contextmanager
def with_filename(path: Path) -> Iterator[None]:
    """While the block writes `path`: a full disk says what is wrong, but not where. The OSError gets the name."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def save_tensors(tensors: "dict[str, Tensor]", path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, flushed to the disk. Errors: OSError with the file's name, as for any other file."""
    from safetensors import SafetensorError  # heavy, and most stages do without
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # its word for a full disk, too: `I/O error: ... (os error 28)`
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
    settle_mode(path)  # safetensors makes it private
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def file_lock(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock file `path` during the block; where another process has it, say `waiting` and wait.

    The lock of a killed process is free at once. The file stays: removing it would let two processes in.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        info(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends on every system, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, keys in the order given, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """The file's sha256 in hexadecimal, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(value: Any, path: Path) -> str:
    """The sha256 of a JSON value, however it is laid out, and of a file beside it, together in hexadecimal."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(f"{text}{sha256_of(path)}".encode()).hexdigest()
