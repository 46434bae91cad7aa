"""The text format: stories one after another, each followed by the separator `<|endoftext|>`."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tinystories.common.artifacts import StoryFile
from tinystories.common.errors import UserError
from tinystories.common.files import atomic_write
from tinystories.common.special_tokens import END_OF_TEXT

SEPARATOR = END_OF_TEXT
BLOCK_BYTES = 1 << 20
# It bounds the memory where the separator is spelt another way: to train on a story takes 100 times its size.
MAX_STORY_BYTES = 1 << 24

_SEPARATOR = SEPARATOR.encode()
SAVE_AS_UTF_8 = "save it as UTF-8, or if it is from an older Windows: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
FAST_BLOCK_BYTES = 1 << 22  # that `read_blocks` reads at once
STORY_END = f"\n{SEPARATOR}\n"
# Whitespace, and the byte order mark: a file joined from several has one at the start of each.
_STRIP = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\ufeff"
_ASCII_STRIP = "".join(filter(str.isascii, _STRIP)).encode()


class Boundary(NamedTuple):
    """What stands between two stories: its name in messages, the bytes that end it, and how to split a text at it."""

    name: str
    ends: tuple[bytes, ...]
    split: Callable[[str], list[str]]


SEPARATOR_BOUNDARY = Boundary(SEPARATOR, (_SEPARATOR,), lambda text: text.split(SEPARATOR))


class StoryBlock(NamedTuple):
    """Some MB of stories as UTF-8, each followed by SEPARATOR, and their number."""

    data: bytes
    stories: int

    @property
    def text_bytes(self) -> int:
        """Bytes of the stories alone."""
        return len(self.data) - self.stories * len(_SEPARATOR)


def read_stories(
    path: Path,
    *,
    name: str | None = None,
    block_size: int = BLOCK_BYTES,
    on_block: Callable[[bytes], object] | None = None,
) -> Iterator[str]:
    """Yield the stories of a file, in its order, in memory bounded by the longest story.

    A story is the text between two separators, also after the last one, stripped of whitespace and byte order marks.
    An empty one is no story. Line ends become `\\n`.

    `name`: stands for the path in messages. `on_block`: called with each block of bytes that is read.

    Errors: UserError for a file that is not readable, not UTF-8 (with the byte), or has no separator for too long.
    """
    name = name or str(path)
    for data, offset in _whole_stories(path, name, block_size, on_block):
        yield from _stories(data, offset, name, SEPARATOR_BOUNDARY)


def read_blocks(path: Path, *, block_size: int = FAST_BLOCK_BYTES) -> Iterator[StoryBlock]:
    """Yield the stories that `read_stories` yields, in blocks, several times as fast. Errors: as there."""
    for data, offset in _whole_stories(path, str(path), block_size, None):
        block = _block(bytes(data), offset, str(path))
        if block.stories:
            yield block


def blocks_of(stories: Iterable[str], block_size: int = FAST_BLOCK_BYTES) -> Iterator[StoryBlock]:
    """Group stories in memory into blocks of at least `block_size` bytes; the last may be smaller."""
    pieces: list[bytes] = []
    grown = count = 0
    for story in stories:
        pieces += story.encode(), _SEPARATOR
        count += 1
        grown += len(pieces[-2])
        if grown >= block_size:
            yield StoryBlock(b"".join(pieces), count)
            pieces.clear()
            grown = count = 0
    if count:
        yield StoryBlock(b"".join(pieces), count)


def _whole_stories(
    path: Path, name: str, block_size: int, on_block: Callable[[bytes], object] | None
) -> Iterator[tuple[bytearray, int]]:
    """Yield bytes that hold whole stories, and their offset in the file."""
    try:
        with path.open("rb", buffering=0) as file:
            yield from _whole_in(file, name, SEPARATOR_BOUNDARY, block_size, on_block)
    except OSError as error:
        raise UserError(f"{name}: not readable ({error.strerror})") from None


def _whole_in(
    file: IO[bytes], name: str, boundary: Boundary, block_size: int, on_block: Callable[[bytes], object] | None
) -> Iterator[tuple[bytearray, int]]:
    longest = max(map(len, boundary.ends))
    rest = bytearray()  # what follows the last boundary read so far
    offset = 0  # of `rest` in the file
    while block := file.read(block_size):
        if on_block:
            on_block(block)
        searched = max(len(rest) - longest + 1, 0)
        rest += block
        end = max(found + len(mark) if (found := rest.rfind(mark, searched)) >= 0 else -1 for mark in boundary.ends)
        if end >= 0:
            yield rest[:end], offset
            del rest[:end]
            offset += end
        elif len(rest) > MAX_STORY_BYTES:
            raise UserError(
                f"{name}: no {boundary.name} in the {len(rest):,} bytes after byte {offset:,}; "
                "each document should end with a line of that"
            )
    yield rest, offset


def stories_in(
    file: IO[bytes], name: str, boundary: Boundary = SEPARATOR_BOUNDARY, block_size: int = BLOCK_BYTES
) -> Iterator[str]:
    """Yield the stories of an open file, as `read_stories` does. Errors: UserError, and OSError of the file."""
    for data, offset in _whole_in(file, name, boundary, block_size, None):
        yield from _stories(data, offset, name, boundary)


def stories_of(text: str, boundary: Boundary = SEPARATOR_BOUNDARY) -> list[str]:
    """Split a text into its stories, in the canonical form: `\\n` ends lines, stripped, none empty."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return [story for piece in boundary.split(text) if (story := piece.strip(_STRIP))]


def _stories(data: bytearray, offset: int, name: str, boundary: Boundary) -> list[str]:
    """Split bytes that hold whole stories. Empties `data`, which may be large. `offset`: of `data` in the file."""
    text = _decode(data, offset, name)
    data.clear()
    return stories_of(text, boundary)


def _block(data: bytes, offset: int, name: str) -> StoryBlock:
    """Do as `_stories` does, on bytes: text that is decoded and encoded again takes several times as long."""
    if not data.isascii():
        _decode(data, offset, name)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    stories = []
    for piece in data.split(_SEPARATOR):
        story = piece.strip(_ASCII_STRIP)
        if story and (story[0] | story[-1]) >= 128:  # an end beyond ASCII, which may be whitespace too
            story = story.decode().strip(_STRIP).encode()
        if story:
            stories.append(story)
    stories.append(b"")
    return StoryBlock(_SEPARATOR.join(stories), len(stories) - 1)


def _decode(data: bytes | bytearray, offset: int, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 at byte {offset + error.start}; {SAVE_AS_UTF_8}") from None


class StoryWriter:
    """Write stories in the canonical form, `story\\n<|endoftext|>\\n`, and count them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._buffer: list[str] = []  # to write and hash each story alone would take twice as long
        self._buffered = 0  # characters
        self._bytes = 0
        self._sha256 = hashlib.sha256()
        self.stories = 0

    def write(self, story: str) -> None:
        """Add one story: text without the separator, stripped, not empty."""
        self._buffer.append(story)
        self._buffered += len(story)
        self.stories += 1
        if self._buffered >= BLOCK_BYTES:
            self._flush()

    def write_encoded(self, data: bytes, stories: int) -> None:
        """Add a number of stories that are in the canonical form already."""
        self._flush()
        self._write(data)
        self.stories += stories

    def finish(self) -> StoryFile:
        """Write what is buffered, and describe the file."""
        self._flush()
        return StoryFile(bytes=self._bytes, stories=self.stories, sha256=self._sha256.hexdigest())

    def _flush(self) -> None:
        if self._buffer:
            self._write((STORY_END.join(self._buffer) + STORY_END).encode())
            self._buffer.clear()
            self._buffered = 0

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._bytes += len(data)


@contextmanager
def story_writer(path: Path) -> Iterator[StoryWriter]:
    """Open `path` for writing stories; it appears when the block ends without an error."""
    with atomic_write(path) as file:
        writer = StoryWriter(file)
        yield writer
        writer.finish()


def write_stories(path: Path, stories: Iterable[str]) -> StoryFile:
    """Write all stories to `path`, whole or not at all."""
    with story_writer(path) as writer:
        for story in stories:
            writer.write(story)
    return writer.finish()
