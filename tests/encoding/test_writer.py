"""Writing token files and meta.json: what is written, in which memory, and that it is whole or not there."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from tests.support.texts import STORIES
from tinystories.common import paths
from tinystories.common.artifacts import TokenFile, TokenMeta
from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.common.special_tokens import END_OF_TEXT
from tinystories.corpus.stories import blocks_of, write_stories
from tinystories.encoding.writer import tokenize_to_memmap, write_blocks, write_tokens
from tinystories.tokenization.token_files import open_tokens
from tinystories.tokenizer_training.bpe import save_tokenizer


@given(texts=STORIES)
def test_write_tokens_separates_stories_by_end_of_text(tokenizer, texts):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "tokens.bin"
        entry = write_tokens(iter(texts), tokenizer, path, total_bytes=1)
        data = path.read_bytes()
    ids = np.frombuffer(data, dtype="<u2")
    assert ids[0] == ids[-1] == 0
    text = tokenizer.decode(ids.tolist(), skip_special_tokens=False)
    assert text == END_OF_TEXT + "".join(story + END_OF_TEXT for story in texts)
    text_bytes = sum(len(story.encode()) for story in texts)
    sha256 = hashlib.sha256(data).hexdigest()
    assert entry == TokenFile(tokens=len(ids), stories=len(texts), bytes=text_bytes, sha256=sha256)


def test_write_tokens_two_bytes_little_endian(token_file, tokenizer, stories):
    path, _ = token_file
    first = tokenizer.encode(stories[0], add_special_tokens=False).ids
    assert max(first) > 255
    assert path.read_bytes()[: 2 + 2 * len(first)] == b"".join(n.to_bytes(2, "little") for n in [0, *first])


@pytest.mark.parametrize("block_bytes", [1, 50, 51, 100, 1000])
def test_write_blocks_independent_of_blocks(tmp_path, tokenizer, stories, token_file, block_bytes):
    path, entry = token_file
    blocks = list(blocks_of(stories, block_bytes))
    assert len(blocks) > 1
    assert write_blocks(blocks, tokenizer, tmp_path / "again.bin", total_bytes=1) == entry
    assert (tmp_path / "again.bin").read_bytes() == path.read_bytes()


def test_write_blocks_constant_memory(tmp_path, tokenizer):
    """No more than a few blocks of stories are read before the block ahead of them is written."""
    part = tmp_path / ".t.bin.part"
    written = []

    def stories() -> Iterator[str]:
        for _ in range(2_000):
            yield "x" * 10
            written.append(part.stat().st_size)

    write_blocks(blocks_of(stories(), 10), tokenizer, tmp_path / "t.bin", total_bytes=1)
    assert written[1_000] > 0


def test_write_blocks_error_leaves_no_file(tmp_path, tokenizer):
    def stories() -> Iterator[str]:
        yield "one"
        yield "two"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write_blocks(blocks_of(stories(), 1), tokenizer, tmp_path / "train.bin", total_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_write_tokens_refuses_no_stories(tmp_path, tokenizer):
    with pytest.raises(UserError, match=r"train.bin: no story to encode; run the stage download again"):
        write_tokens([], tokenizer, tmp_path / "train.bin", total_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_tokenize_to_memmap_writes_both_splits_and_meta(tmp_path, monkeypatch, stories, tokenizer):
    monkeypatch.chdir(tmp_path)
    save_tokenizer(tokenizer, paths.TOKENIZER)
    write_stories(paths.RAW_TRAIN, stories[10:])
    write_stories(paths.RAW_VALID, stories[:10])
    tokenize_to_memmap()
    meta = TokenMeta.read()
    assert (meta.vocab_size, meta.tokenizer_sha256) == (300, sha256_of(paths.TOKENIZER))
    assert (meta.train.stories, meta.valid.stories) == (len(stories) - 10, 10)
    for path, entry in ((paths.TOKENS_TRAIN, meta.train), (paths.TOKENS_VALID, meta.valid)):
        assert len(open_tokens(path, entry, 300)) == entry.tokens
