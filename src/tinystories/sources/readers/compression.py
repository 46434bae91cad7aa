"""Open a file, compressed or not, as a stream of its plain bytes, and explain what is wrong with it."""

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from tinystories.common.errors import UserError, shorten

COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
UNPACK = {".gz": "gunzip", ".bz2": "bunzip2", ".xz": "unxz", ".zst": "unzstd"}
_MAGIC = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\0"}
# A frame, and the sixteen that may be skipped.
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16)))


class _Counted(io.RawIOBase):
    """A file that tells each block of bytes that is read from it."""

    def __init__(self, file: IO[bytes], on_block: Callable[[memoryview], object]) -> None:
        self._file, self._on_block = cast(io.FileIO, file), on_block

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        size = self._file.readinto(view)
        if size:
            self._on_block(view[:size])
        return size


def compression_of(name: str) -> str:
    """The ending that says how a file is compressed, or an empty text."""
    ending = Path(name).suffix.lower()
    return ending if ending in COMPRESSIONS else ""


def is_compressed(head: bytes, ending: str) -> bool:
    """Whether a file's first bytes are those of the compression that its ending names."""
    return head.startswith(_ZSTD if ending == ".zst" else _MAGIC[ending])


@contextmanager
def open_plain(path: Path, ending: str, on_block: Callable[[memoryview], object] | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading its bytes, decompressed where `ending` is that of a compression.

    `on_block`: called with each block of bytes of the file itself, of the whole file when the block ends well.
    """
    with path.open("rb", buffering=0) as file:
        raw: io.RawIOBase = _Counted(file, on_block) if on_block else file
        buffered = io.BufferedReader(raw, 1 << 20)
        yield _decompressed(buffered, ending)
        while on_block and buffered.read(1 << 20):  # what no decompressor took
            pass


def _decompressed(file: IO[bytes], ending: str) -> IO[bytes]:
    opened: object = file
    if ending == ".gz":
        opened = gzip.GzipFile(fileobj=file, mode="rb")
    elif ending == ".bz2":
        opened = bz2.BZ2File(file)
    elif ending == ".xz":
        opened = lzma.LZMAFile(file)  # noqa: SIM115
    elif ending == ".zst":
        import pyarrow  # slow to import, and most files need it not

        opened = io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd"), 1 << 20)
    return cast(IO[bytes], opened)


@contextmanager
def explained(name: str, path: Path, ending: str) -> Iterator[None]:
    """Turn errors of reading into a UserError of one line, and refuse a file that changes during the block."""
    try:
        before = path.stat()
        yield
        after = path.stat()
    except EOFError:
        raise UserError(
            f"{name}: cut off: its {COMPRESSIONS[ending]} data end too early; copy or download it again"
        ) from None
    except (zlib.error, lzma.LZMAError, OSError) as error:
        # Decompressors raise OSError, too, but without a number.
        if isinstance(error, OSError) and error.errno is not None:
            # A disk that is full has another file's name.
            if error.filename is not None and str(error.filename) != str(path):
                raise
            raise UserError(f"{name}: not readable ({os.strerror(error.errno)})") from None
        if not ending:
            raise
        what = "cut off" if "truncated" in str(error).lower() else "damaged"
        raise UserError(
            f"{name}: {what}: its {COMPRESSIONS[ending]} data cannot be read ({shorten(str(error))}); "
            "copy or download it again"
        ) from None
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        raise UserError(f"{name}: changed while it was read; run again when nothing writes it any more")
