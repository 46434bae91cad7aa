"""One of the user's files: what it is by its ending, whether it looks like that, and its documents."""

import codecs
import hashlib
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tinystories.common.console import ProgressBar, plural, warn
from tinystories.common.errors import UserError
from tinystories.common.paths import RAW_TRAIN
from tinystories.corpus.stories import MAX_STORY_BYTES, stories_in, stories_of
from tinystories.sources.readers.compression import (
    COMPRESSIONS,
    compression_of,
    explained,
    is_compressed,
    open_plain,
)
from tinystories.sources.readers.recognise import HEAD_BYTES, advice, recognise
from tinystories.sources.readers.tables import csv_rows, json_rows
from tinystories.sources.readers.text import BOUNDARIES, Documents

KINDS = {".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}


@dataclass
class UserFile:
    """A file that the user named. `name`: what messages and manifest call it. Reading counts what is read."""

    key: str
    name: str
    path: Path
    column: str
    documents: Documents
    bytes_read: int = 0
    stories: int = 0
    _sha256: Any = field(default_factory=hashlib.sha256)

    @property
    def compression(self) -> str:
        """The ending that says how it is compressed, or an empty text."""
        return compression_of(self.name)

    @property
    def kind(self) -> str:
        """What it is by its ending: json, csv, tsv, parquet, else text."""
        return KINDS.get(Path(self.name[: len(self.name) - len(self.compression)]).suffix.lower(), "text")

    @property
    def _title(self) -> str:
        return f"{self.key}: {self.name}"

    def check(self) -> None:
        """Look at its beginning. Errors: UserError where it is not what its ending says."""
        with explained(self._title, self.path, ""):
            head = self._head(compressed=True, size=HEAD_BYTES)
        compression = self.compression
        if compression and head and not is_compressed(head, compression):
            raise UserError(f"{self._title}: no {COMPRESSIONS[compression]} data; {self._not_compressed(head)}")
        if compression:
            with explained(self._title, self.path, compression):
                head = self._head(compressed=False, size=HEAD_BYTES)
        if look := recognise(head, len(head) < HEAD_BYTES, self.kind, self.column):
            raise UserError(f"{self._title}: {advice(look, self.name, compression)}")
        if self.kind == "parquet" and head and not head.startswith(b"PAR1"):
            raise UserError(f"{self._title}: no Parquet data{', looks like text' if _is_text(head) else ''}")

    def _not_compressed(self, head: bytes) -> str:
        """Say what a file looks like that its ending calls compressed."""
        if look := recognise(head, False, self.kind, self.column):
            return advice(look, self.name, self.compression, packed=False)
        bare = self.name.removesuffix(self.compression)
        if _is_text(head) or head.startswith(b"PAR1"):
            return f"looks like a file that is not compressed; run: mv {shlex.quote(self.name)} {shlex.quote(bare)}"
        return "copy or download it again"

    def beginning(self, size: int) -> bytes:
        """The first bytes, decompressed. Errors: UserError."""
        with explained(self._title, self.path, self.compression):
            return self._head(compressed=False, size=size)

    def _head(self, compressed: bool, size: int) -> bytes:
        with open_plain(self.path, "" if compressed else self.compression) as file:
            return file.read(size)

    def read(self, bar: ProgressBar) -> Iterator[str]:
        """Yield the stories, in their order. Errors: UserError."""

        def count(block: memoryview) -> None:
            self._sha256.update(block)
            self.bytes_read += len(block)
            bar.advance(len(block))

        with (
            explained(self._title, self.path, self.compression),
            open_plain(self.path, self.compression, count) as file,
        ):
            if self.kind == "text":
                stories = self._checked(stories_in(file, self._title, BOUNDARIES[self.documents]))
            else:
                stories = self._cells(file)
            for story in stories:
                self.stories += 1
                yield story

    def _checked(self, stories: Iterator[str]) -> Iterator[str]:
        for story in stories:
            if "\0" in story:
                raise UserError(f"{self._title}: document {self.stories + 1:,} has a zero byte in it; expected text")
            yield story

    def _cells(self, file: IO[bytes]) -> Iterator[str]:
        """Yield the stories of a table's column. Rows without text are left out, with a warning."""
        empty = 0
        with self._rows(file) as rows:
            for where, text in rows:
                stories = stories_of(text) if text else []
                empty += not stories
                for story in stories:
                    self._check_story(story, where)
                    yield story
        if empty:
            warn(f"{self.name}: {plural(empty, 'row')} without text in {self.column!r} left out")

    def _check_story(self, story: str, where: str) -> None:
        if "\0" in story:
            raise UserError(f"{self._title}: {where}: a zero byte in {self.column!r}; expected text")
        try:
            size = len(story) if story.isascii() else len(story.encode())
        except UnicodeEncodeError as error:
            half = ascii(story[error.start])
            raise UserError(f"{self._title}: {where}: half a character ({half}) in {self.column!r}") from None
        if size > MAX_STORY_BYTES:
            raise UserError(
                f"{self._title}: {where}: a document of {size:,} bytes; expected at most {MAX_STORY_BYTES:,}"
            )

    @contextmanager
    def _rows(self, file: IO[bytes]) -> Iterator[Iterator[tuple[str, str | None]]]:
        if self.kind == "json":
            yield json_rows(file, self._title, self.column)
        elif self.kind != "parquet":
            yield csv_rows(file, self._title, self.column, tabs=self.kind == "tsv")
        else:
            from tinystories.sources.readers.parquet import parquet_rows  # slow to import

            with _seekable(file, self.path, self.compression) as opened:
                yield parquet_rows(opened, self._title, self.column)

    def entry(self) -> dict[str, Any]:
        """Describe the file for the manifest."""
        return {
            "path": self.name,
            "bytes": self.bytes_read,
            "stories": self.stories,
            "sha256": self._sha256.hexdigest(),
        }


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


@contextmanager
def _seekable(file: IO[bytes], path: Path, compression: str) -> Iterator[IO[bytes]]:
    """Open a file that Parquet's reader may seek in: itself, or what it holds decompressed, in an unnamed file."""
    if not compression:
        with path.open("rb") as opened:
            yield opened
        return
    with tempfile.TemporaryFile(dir=RAW_TRAIN.parent) as unpacked:
        shutil.copyfileobj(file, unpacked, 1 << 20)
        unpacked.seek(0)
        yield unpacked
