"""Stories in a text file: one after another, each ended by the separator `<|endoftext|>`."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tinystories.common.errors import UserError
from tinystories.common.files import atomic_write

SEPARATOR = "<|endoftext|>"
BLOCK = 1 << 20  # bytes
# Bytes. It bounds the memory where the separator is spelt another way: to learn from a story takes 100 times its size.
MAX_STORY_BYTES = 1 << 24

_SEPARATOR = SEPARATOR.encode()
_STORY_END = f"\n{SEPARATOR}\n"
# Whitespace, and the byte order mark: a file that was joined from several has one at the start of each.
_AROUND = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\ufeff"


def read_stories(
    path: Path,
    *,
    name: str | None = None,
    block_size: int = BLOCK,
    on_block: Callable[[bytes], object] | None = None,
) -> Iterator[str]:
    """The stories of a file, in its order, in memory bounded by the longest story.

    A story is what lies between separators, wherever they stand, stripped of whitespace and byte order marks around it;
    an empty one is no story. What follows the last separator counts too. Line ends become `\\n`. `name` stands for the
    path in messages; `on_block` is shown each block of bytes as it is read.

    Errors: UserError for a file that is not readable, not UTF-8 (with the byte), or has no separator for too long.
    """
    name = name or str(path)
    try:
        with path.open("rb", buffering=0) as file:
            rest = bytearray()  # what follows the last separator read so far
            offset = 0  # of `rest` in the file
            while block := file.read(block_size):
                if on_block:
                    on_block(block)
                searched = max(len(rest) - len(_SEPARATOR) + 1, 0)
                rest += block
                found = rest.rfind(_SEPARATOR, searched)
                if found >= 0:
                    end = found + len(_SEPARATOR)
                    yield from _stories(rest[:end], offset, name)
                    del rest[:end]
                    offset += end
                elif len(rest) > MAX_STORY_BYTES:
                    raise UserError(
                        f"{name}: no {SEPARATOR} in the {len(rest):,} bytes after byte {offset:,}; "
                        "each story should end with a line of that"
                    )
            yield from _stories(rest, offset, name)
    except OSError as error:
        raise UserError(f"{name}: not readable ({error.strerror})") from None


def _stories(data: bytearray, offset: int, name: str) -> list[str]:
    """The stories in whole ones' bytes, which begin at `offset` in the file. Empties `data`, which may be large."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 at byte {offset + error.start}; save it as UTF-8") from None
    data.clear()
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return [story for piece in text.split(SEPARATOR) if (story := piece.strip(_AROUND))]


@dataclass(frozen=True)
class FileStats:
    """What a file of stories holds: bytes (separators included), stories, and its sha256 in hexadecimal."""

    bytes: int
    stories: int
    sha256: str


class StoryWriter:
    """Writes stories in the canonical form, `story\\n<|endoftext|>\\n`, and counts what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._waiting: list[str] = []  # writing and hashing story by story would take twice as long
        self._characters = 0
        self._bytes = 0
        self._sha256 = hashlib.sha256()
        self.stories = 0

    def write(self, story: str) -> None:
        """Add one story: text without the separator, stripped, not empty."""
        self._waiting.append(story)
        self._characters += len(story)
        self.stories += 1
        if self._characters >= BLOCK:
            self._flush()

    def size(self) -> FileStats:
        """What has been written so far."""
        self._flush()
        return FileStats(self._bytes, self.stories, self._sha256.hexdigest())

    def _flush(self) -> None:
        if self._waiting:
            data = (_STORY_END.join(self._waiting) + _STORY_END).encode()
            self._file.write(data)
            self._sha256.update(data)
            self._bytes += len(data)
            self._waiting.clear()
            self._characters = 0


@contextmanager
def story_writer(path: Path) -> Iterator[StoryWriter]:
    """A writer of `path`, which appears when the block ends without an error."""
    with atomic_write(path) as file:
        writer = StoryWriter(file)
        yield writer
        writer.size()


def write_stories(path: Path, stories: Iterable[str]) -> FileStats:
    """Write all the stories to `path`, whole or not at all."""
    with story_writer(path) as writer:
        for story in stories:
            writer.write(story)
    return writer.size()
