"""The user's own text: paths and globs, read, checked and written in the canonical form."""

import codecs
import glob
import hashlib
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tinystories.common.artifacts import Manifest
from tinystories.common.console import ProgressBar, plural, progress, warn
from tinystories.common.errors import UserError
from tinystories.common.params import FilesSource
from tinystories.common.paths import RAW_TRAIN, RAW_VALID, repository_root
from tinystories.common.urls import is_address, redact
from tinystories.corpus.stories import MAX_STORY_BYTES, SEPARATOR, StoryWriter, read_stories, story_writer
from tinystories.sources.formats import refuse_other_formats

# A file alone, with more than this and without a separator, is hardly meant as one document: a novel has half of it.
MAX_UNSEPARATED_BYTES = 1_000_000


@dataclass
class UserFile:
    """One of the user's files. `name`: what messages and manifest call it. Reading counts what is read."""

    key: str
    name: str
    path: Path
    bytes: int = 0
    stories: int = 0
    _sha256: Any = field(default_factory=hashlib.sha256)

    def read(self, bar: ProgressBar) -> Iterator[str]:
        """Yield the stories."""

        def count(block: bytes) -> None:
            self._sha256.update(block)
            self.bytes += len(block)
            bar.advance(len(block))

        for story in read_stories(self.path, name=f"{self.key}: {self.name}", on_block=count):
            self.stories += 1
            yield story

    def entry(self) -> dict[str, Any]:
        """Describe the file for the manifest: DVC watches the parameter's text, not the file's content."""
        return {"path": self.name, "bytes": self.bytes, "stories": self.stories, "sha256": self._sha256.hexdigest()}


def prepare_files(source: FilesSource) -> Manifest:
    """Read the user's files and write them in the canonical form.

    A file without separators is one document. Errors: UserError for a file that is missing, not readable, of another
    format or without text, one that alone has no separator, and for an empty split.
    """
    train = _resolve_inputs("data.files.train", source.train)
    valid = _resolve_inputs("data.files.valid", source.valid) if source.valid.strip() else []
    for files in (train, valid):
        for file in files:
            refuse_other_formats(file.key, file.name, file.path)
            if len(files) == 1:
                _check_separated(file, alone=not valid)
    return _write(train, valid, source.held_out)


def _check_separated(file: UserFile, alone: bool) -> None:
    """Refuse one file for a split that has no separator: always where it is for both (`alone`), else a large one."""
    try:
        with file.path.open("rb") as opened:
            data = opened.read(MAX_STORY_BYTES)
        codecs.getincrementaldecoder("utf-8")().decode(data, final=len(data) < MAX_STORY_BYTES)
    except (OSError, UnicodeDecodeError):
        return  # left to what reads it
    if SEPARATOR.encode() in data or not data.strip() or not (alone or len(data) > MAX_UNSEPARATED_BYTES):
        return
    piece, mode = ("paragraph", "-v RS= ") if b"\n\n" in data or b"\n\r\n" in data else ("line", "")
    new = f"{file.name.removesuffix('.txt')}.separated.txt"
    awk = f"awk {mode}'1; {{print \"{SEPARATOR}\"}}' {shlex.quote(file.name)} > {shlex.quote(new)}"
    one = "give data.files.valid" if alone else "end it with that line, too"
    raise UserError(
        f"{file.key}: {file.name}: no {SEPARATOR} in {plural(file.path.stat().st_size, 'byte')}, so it is one document"
        f"{' and leaves none to validate on' if alone else ''}; end each document with a line {SEPARATOR} (where each "
        f"{piece} is one: {awk}), or give a file for each ('my/*.txt'), which needs no such line; if it is one, {one}"
    )


def _write(train: list[UserFile], valid: list[UserFile], held_out: float) -> Manifest:
    """Write both splits. Errors: UserError."""
    with (
        story_writer(RAW_TRAIN) as train_writer,
        story_writer(RAW_VALID) as valid_writer,
        progress("Reading documents", total=sum(file.path.stat().st_size for file in train + valid)) as bar,
    ):
        detail: dict[str, Any]
        if valid:
            overlap = _write_both(train, valid, train_writer, valid_writer, bar)
            detail = {"valid": [file.entry() for file in valid], "valid_also_in_train": overlap}
        else:
            _write_split(train, held_out, train_writer, valid_writer, bar)
            detail = {"held_out": held_out}
        detail = {"train": [file.entry() for file in train], **detail}
        return Manifest(source="files", detail=detail, train=train_writer.finish(), valid=valid_writer.finish())


def _write_both(
    train: list[UserFile], valid: list[UserFile], train_writer: StoryWriter, valid_writer: StoryWriter, bar: ProgressBar
) -> int:
    """Write both splits as they are. Returns the overlap: how many distinct stories of `valid` are in `train` too."""
    only_valid = set()
    for story in _read(valid, bar):
        valid_writer.write(story)
        only_valid.add(_hash(story))
    distinct = len(only_valid)
    for story in _read(train, bar):
        train_writer.write(story)
        only_valid.discard(_hash(story))
    if overlap := distinct - len(only_valid):
        stand = "stand" if overlap > 1 else "stands"
        found = f"{plural(overlap, 'document')} of data.files.valid {stand} in data.files.train too"
        warn(f"{found}; the validation loss flatters")
    return overlap


def _write_split(
    files: list[UserFile], held_out: float, train_writer: StoryWriter, valid_writer: StoryWriter, bar: ProgressBar
) -> None:
    """Hold out a fraction of the stories by their hash: order and copies do not change the split of a story."""
    smallest, largest = 2**64, 0
    for story in _read(files, bar):
        position = _hash(story)
        smallest, largest = min(smallest, position), max(largest, position)
        (valid_writer if position < held_out * 2**64 else train_writer).write(story)
    purpose = "to train on" if valid_writer.stories else "to validate on"
    if not (valid_writer.stories and train_writer.stories):
        share = math.floor(smallest / 2**64 * 100 + 1) / 100  # holds out the first one at least
        another = f", or: dvc exp run -S data.files.held_out={share:g}" if share <= min(largest / 2**64, 0.5) else ""
        raise UserError(
            f"data.files.held_out is {held_out:g}; that leaves none {purpose} of "
            f"{plural(sum(file.stories for file in files), 'document')} in data.files.train; "
            f"give more documents or data.files.valid{another}"
        )


def _read(files: list[UserFile], bar: ProgressBar) -> Iterator[str]:
    """Yield the stories of all files. Errors: UserError where there is none at all."""
    for file in files:
        yield from file.read(bar)
    if not any(file.stories for file in files):
        named = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
        found = "no text" if any(file.bytes for file in files) else "empty"
        raise UserError(f"{files[0].key}: {named}: {found}; expected documents, each ended by a line {SEPARATOR}")


def _hash(story: str) -> int:
    return int.from_bytes(hashlib.sha256(story.encode()).digest()[:8])


def _resolve_inputs(key: str, value: str) -> list[UserFile]:
    """Find the files that a path or glob names. Errors: UserError."""
    value = value.strip()
    if is_address(value):
        address, name = redact(value), shlex.quote(PurePosixPath(value).name)
        raise UserError(
            f"{key} is {address!r}; a path is expected, because DVC watches files; run: "
            f"dvc import-url {shlex.quote(address)} data/own/{name} and give data/own/{name}"
        )
    root = repository_root()
    try:
        given = Path(value).expanduser()
        path = root / given
        if path.is_file():
            return [UserFile(key, value, path)]
        if path.exists():
            what = f"a directory; name its files, as in {Path(value) / '*.txt'}" if path.is_dir() else "no regular file"
            raise UserError(f"{key} is {value!r}; that is {what}")
        pattern = str(given) if given.is_absolute() else str(Path(glob.escape(str(root))) / given)
        found = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207 - takes absolute ones
        files = [file for file in found if file.is_file()]
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{key} is {value!r}: {getattr(error, 'strerror', None) or error}") from None
    if not files:
        what = "no file matches it" if glob.has_magic(value) else "no such file"
        raise UserError(f"{key} is {value!r}; {what}, seen from {root}")
    return [UserFile(key, str(file.relative_to(root) if file.is_relative_to(root) else file), file) for file in files]
