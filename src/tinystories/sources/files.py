"""The user's own text: files read, checked and written in the canonical form, and the held-out split."""

import codecs
import hashlib
import math
from collections.abc import Iterator
from typing import Any

from tinystories.common.artifacts import Manifest
from tinystories.common.console import ProgressBar, plural, progress, warn
from tinystories.common.errors import UserError
from tinystories.common.params import FilesSource
from tinystories.common.paths import RAW_TRAIN, RAW_VALID
from tinystories.corpus.stories import MAX_STORY_BYTES, SEPARATOR, StoryWriter, story_writer
from tinystories.sources.find_files import find_files
from tinystories.sources.readers.read import UserFile

# A file alone, with more than this and without a separator, is hardly meant as one document: a novel has half of it.
MAX_UNSEPARATED_BYTES = 1_000_000


def prepare_files(source: FilesSource) -> Manifest:
    """Read the user's files and write their documents in the canonical form.

    A text file without separators is one document, unless `data.files.documents` says otherwise. Errors: UserError
    for a file that is missing, not readable, of another format or without text, a text that alone has no separator,
    and for an empty split.
    """
    train, valid = find_files(source)
    for files in (train, valid):
        for file in files:
            file.check()
        if len(files) == 1 and files[0].kind == "text" and source.documents == "auto":
            _check_separated(files[0], alone=not valid)
    return _write(train, valid, source.held_out)


def _check_separated(file: UserFile, alone: bool) -> None:
    """Refuse one text for a split that has no separator: always where it is for both (`alone`), else a large one."""
    data = file.beginning(MAX_STORY_BYTES)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=len(data) < MAX_STORY_BYTES)
    except UnicodeDecodeError:
        return  # left to what reads it
    if (
        SEPARATOR.encode() in data
        or not data.removeprefix(codecs.BOM_UTF8).strip()
        or not (alone or len(data) > MAX_UNSEPARATED_BYTES)
    ):
        return
    blank_lines = b"\n\n" in data or b"\n\r\n" in data
    piece, value = ("paragraph", "blank_lines") if blank_lines else ("line", "lines")
    one = "give data.files.valid" if alone else "end it with that line, too"
    count = plural(len(data), "byte") if len(data) < MAX_STORY_BYTES else f"its first {len(data):,} bytes"
    raise UserError(
        f"{file.key}: {file.name}: no {SEPARATOR} in {count}, so it is one document"
        f"{' and leaves none to validate on' if alone else ''}; where each {piece} is one, add "
        f"-S data.files.documents={value}; else end each document with a line {SEPARATOR}, or give a directory with a "
        f"file for each, which needs no such line; if it is one, {one}"
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
        found = f"{plural(overlap, 'document')} of data.files.valid {stand} in the others too"
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
        found = "no text" if any(file.bytes_read for file in files) else "empty"
        raise UserError(f"{files[0].key}: {named}: {found}; expected documents")


def _hash(story: str) -> int:
    return int.from_bytes(hashlib.sha256(story.encode()).digest()[:8])
