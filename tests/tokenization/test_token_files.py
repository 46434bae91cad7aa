"""Token files: what is written, and what is refused when it is read back."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.common.special_tokens import END_OF_TEXT
from tinystories.encoding import encoder as encoding
from tinystories.encoding.writer import write_meta, write_tokens
from tinystories.tokenization import token_files as tokens
from tinystories.tokenization.token_files import (
    Split,
    TokenMeta,
    check_counts,
    matching_tokenizer,
    open_tokens,
    read_meta,
)
from tinystories.tokenizer_training.bpe import save_tokenizer, train_tokenizer

STORIES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: END_OF_TEXT not in t))


@pytest.fixture
def meta(token_file, tokenizer_file) -> TokenMeta:
    _, split = token_file
    return TokenMeta(300, sha256_of(tokenizer_file), split, split)


@pytest.fixture
def copied(token_file, tmp_path) -> tuple[Path, Split]:
    """A token file that a test may damage."""
    path, split = token_file
    copy = tmp_path / "train.bin"
    copy.write_bytes(path.read_bytes())
    return copy, split


@given(texts=STORIES)
def test_the_stories_come_back_separated_by_end_of_text(tokenizer, texts):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "tokens.bin"
        split = write_tokens(iter(texts), tokenizer, path, total_bytes=1)
        data = path.read_bytes()
    ids = np.frombuffer(data, dtype="<u2")
    assert ids[0] == ids[-1] == 0
    text = tokenizer.decode(ids.tolist(), skip_special_tokens=False)
    assert text == END_OF_TEXT + "".join(story + END_OF_TEXT for story in texts)
    assert split == Split(
        len(ids), len(texts), sum(len(story.encode()) for story in texts), hashlib.sha256(data).hexdigest()
    )


def test_two_bytes_a_token_little_endian(token_file, tokenizer, stories):
    path, _ = token_file
    first = tokenizer.encode(stories[0], add_special_tokens=False).ids
    assert max(first) > 255
    assert path.read_bytes()[: 2 + 2 * len(first)] == b"".join(n.to_bytes(2, "little") for n in [0, *first])


@pytest.mark.parametrize("at_once", [1, 50, 51, 100, 1000])
def test_the_file_does_not_depend_on_how_the_stories_are_grouped(
    tmp_path, tokenizer, stories, token_file, monkeypatch, at_once
):
    path, split = token_file
    monkeypatch.setattr(encoding, "AT_ONCE", at_once)
    assert len(list(encoding.encode_stories(stories, tokenizer))) > 1
    assert write_tokens(stories, tokenizer, tmp_path / "again.bin", total_bytes=1) == split
    assert (tmp_path / "again.bin").read_bytes() == path.read_bytes()


def test_stories_are_read_only_as_far_as_they_are_needed(tmp_path, tokenizer, monkeypatch):
    """Constant memory: no more than a group of stories is taken before the one ahead is written."""
    monkeypatch.setattr(encoding, "AT_ONCE", 10)
    part = tmp_path / ".t.bin.part"
    written = []

    def stories() -> Iterator[str]:
        for _ in range(2_000):
            yield "x" * 10
            written.append(part.stat().st_size)

    write_tokens(stories(), tokenizer, tmp_path / "t.bin", total_bytes=1)
    assert written[1_000] > 0


def test_an_error_on_the_way_leaves_nothing_behind(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "AT_ONCE", 1)

    def stories() -> Iterator[str]:
        yield "one"
        yield "two"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write_tokens(stories(), tokenizer, tmp_path / "train.bin", total_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_opens(token_file):
    path, split = token_file
    opened = open_tokens(path, split, 300)
    assert opened.shape == (split.tokens,)
    assert opened.tobytes() == path.read_bytes()
    assert isinstance(opened, np.memmap)
    assert not opened.flags.writeable


def test_a_missing_file(tmp_path, token_file):
    with pytest.raises(UserError, match=r"train.bin: no such file; run the stage tokenize_to_memmap"):
        open_tokens(tmp_path / "train.bin", token_file[1], 300)


@pytest.mark.parametrize("cut", [1, 2, 3, 100])  # also in the middle of a token
def test_a_cut_file(copied, cut):
    path, split = copied
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(
        UserError, match=f"{split.tokens * 2 - cut:,} bytes, but meta.json says {split.tokens:,} tokens"
    ):
        open_tokens(path, split, 300)


def test_an_empty_file(copied):
    path, split = copied
    path.write_bytes(b"")
    with pytest.raises(UserError, match="0 bytes, but meta.json says"):
        open_tokens(path, split, 300)


def test_one_altered_bit(copied):
    path, split = copied
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="its sha256 is not the one in meta.json"):
        open_tokens(path, split, 300)


def test_a_token_beyond_the_vocabulary(copied):
    path, split = copied
    largest = int(np.fromfile(path, "<u2").max())
    assert open_tokens(path, split, largest + 1).max() == largest
    with pytest.raises(UserError, match=f"holds token {largest}, but the vocabulary has {largest} entries"):
        open_tokens(path, split, largest)


def test_meta_comes_back(tmp_path, meta):
    write_meta(meta, tmp_path / "meta.json")
    assert read_meta(tmp_path / "meta.json") == meta


def test_meta_is_missing(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_meta(tmp_path / "meta.json")


LIES: list[Any] = [0, -1, "5", 5.0, True, None, [], 2**53 + 1]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("field", ["vocab_size", "train.tokens", "train.stories", "train.bytes", "valid.tokens"])
def test_a_count_in_meta_that_is_none(tmp_path, meta, field, lie):
    values = asdict(meta)
    *section, name = field.split(".")
    (values[section[0]] if section else values)[name] = lie
    (tmp_path / "meta.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="not the form that tokenize_to_memmap writes; run that stage again"):
        read_meta(tmp_path / "meta.json")


@pytest.mark.parametrize("field", ["vocab_size", "tokenizer_sha256", "train", "valid", "train.sha256", "valid.bytes"])
def test_a_field_of_meta_that_is_missing(tmp_path, meta, field):
    values = asdict(meta)
    *section, name = field.split(".")
    del (values[section[0]] if section else values)[name]
    (tmp_path / "meta.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="not the form"):
        read_meta(tmp_path / "meta.json")


@pytest.mark.parametrize(
    "section", [None, 5, [], "train", {"tokens": 1, "stories": 1, "bytes": 1, "sha256": "", "more": 1}]
)
def test_a_section_of_meta_of_another_form(tmp_path, meta, section):
    (tmp_path / "meta.json").write_text(json.dumps({**asdict(meta), "train": section}))
    with pytest.raises(UserError, match="not the form"):
        read_meta(tmp_path / "meta.json")


@pytest.mark.parametrize("field", ["tokens", "sha256"])
def test_meta_that_lies_about_the_file(copied, field):
    path, split = copied
    other: dict[str, Any] = {"tokens": split.tokens + 1, "sha256": "0" * 64}
    with pytest.raises(UserError, match="run the stage tokenize_to_memmap again"):
        open_tokens(path, replace(split, **{field: other[field]}), 300)


def test_the_tokenizer_of_the_tokens_is_accepted(meta, tokenizer_file):
    assert matching_tokenizer(meta, tokenizer_file).get_vocab_size() == 300


def test_tokens_of_another_tokenizer_are_refused(tmp_path, meta, stories):
    save_tokenizer(train_tokenizer(stories, 299, total_bytes=1), tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match="not the tokenizer that the token files were made with"):
        matching_tokenizer(meta, tmp_path / "tokenizer.json")


def test_a_meta_that_lies_about_the_vocabulary_is_refused(meta, tokenizer_file):
    with pytest.raises(UserError, match=r"tokenizer.json: 300 entries, but meta.json says 400"):
        matching_tokenizer(replace(meta, vocab_size=400), tokenizer_file)


def test_another_tokenizer_is_not_even_tried(tmp_path, meta, monkeypatch):
    """It could be one that fills the memory."""
    monkeypatch.setattr(tokens, "load_tokenizer", lambda path: pytest.fail("it was loaded"))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not the tokenizer that the token files were made with"):
        matching_tokenizer(meta, tmp_path / "tokenizer.json")


def test_counts_of_the_tokens_themselves_are_accepted(token_file, tokenizer, monkeypatch):
    path, split = token_file
    for block in (7, split.tokens - 1, split.tokens, 2**20):
        monkeypatch.setattr(tokens, "BLOCK", block)
        check_counts(path, open_tokens(path, split, 300), split, tokenizer)


@given(texts=STORIES.filter(bool))
def test_any_story_has_as_many_bytes_as_its_tokens(tokenizer, texts):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "tokens.bin"
        split = write_tokens(iter(texts), tokenizer, path, total_bytes=1)
        check_counts(path, open_tokens(path, split, 300), split, tokenizer)


@pytest.mark.parametrize("field", ["stories", "bytes"])
@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_meta_that_lies_about_stories_or_bytes_is_refused(token_file, tokenizer, field, change):
    """Bits per byte would be wrong by as much, and no checksum would tell."""
    path, split = token_file
    wrong = replace(split, **{field: getattr(split, field) + change})
    with pytest.raises(UserError, match=r"train.bin: 60 stories of [\d,]+ bytes, but meta.json says [\d,]+ stories of"):
        check_counts(path, open_tokens(path, wrong, 300), wrong, tokenizer)


def test_tokens_without_a_tokenizer_are_refused(tmp_path, meta):
    with pytest.raises(UserError, match=r"tokenizer.json: no such file; run the stage train_tokenizer"):
        matching_tokenizer(meta, tmp_path / "tokenizer.json")
