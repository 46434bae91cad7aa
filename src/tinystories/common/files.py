"""Write files atomically, copy and link them, lock them, and compute their checksums."""

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
_UMASK = os.umask(0o077)  # can only be read by setting it: once, before there are threads
os.umask(_UMASK)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing bytes; it appears under its name only when the block ends without an error.

    The bytes go to `.NAME.part` in the same directory, are flushed to the disk, and are then renamed into place.
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
        with suppress(OSError):  # it would hide the first error
            part.unlink()
        raise


def settle_mode(path: Path) -> None:
    """Set the mode that the umask gives a new file: some libraries make private files, others copy the source's mode.

    DVC's own files are read-only where it links its cache (`cache.type hardlink,symlink`).
    """
    path.chmod(0o666 & ~_UMASK)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes atomically."""
    with source.open("rb") as file, atomic_write(target) as copy:
        shutil.copyfileobj(file, copy, COPY_BLOCK)


def link_file(source: Path, target: Path) -> None:
    """Hard-link `target` to `source`, or copy it where links are not possible.

    Only for files that are never changed in place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        copy_file(source, target)


@contextmanager
def with_filename(path: Path) -> Iterator[None]:
    """Add the name of `path` to an OSError of the block: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def save_tensors(tensors: "dict[str, Tensor]", path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file and flush it to the disk. Errors: OSError with the file's name."""
    from safetensors import SafetensorError  # slow to import, and most stages do not need it
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # also for a full disk: `I/O error: ... (os error 28)`
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
    settle_mode(path)  # safetensors makes it private
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def file_lock(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock file `path` during the block; where another process holds it, print `waiting` and wait.

    The lock of a killed process is released at once. The file stays: removing it would let two processes in.
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
    """Write UTF-8 text atomically, with `\\n` line ends on every system."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """Compute the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(value: Any, path: Path) -> str:
    """Compute one sha256 of a JSON value, however it is laid out, and a file, in hexadecimal."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(f"{text}{sha256_of(path)}".encode()).hexdigest()
