"""Token files as they are read: what opens, and what is refused before a token is used."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from tests.support.texts import STORIES
from tinystories.common.artifacts import TokenFile, TokenMeta
from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.common.special_tokens import PUTS_END_OF_TEXT_FIRST
from tinystories.encoding.writer import write_tokens
from tinystories.tokenization import token_files
from tinystories.tokenization.token_files import check_counts, matching_tokenizer, open_tokens
from tinystories.tokenizer_training.bpe import save_tokenizer, train_tokenizer


@pytest.fixture
def meta(token_file, tokenizer_file) -> TokenMeta:
    _, entry = token_file
    return TokenMeta(vocab_size=300, tokenizer_sha256=sha256_of(tokenizer_file), train=entry, valid=entry)


@pytest.fixture
def copied(token_file, tmp_path) -> tuple[Path, TokenFile]:
    """A token file that a test may corrupt."""
    path, entry = token_file
    copy = tmp_path / "train.bin"
    copy.write_bytes(path.read_bytes())
    return copy, entry


def test_open_tokens_maps_the_file(token_file):
    path, entry = token_file
    opened = open_tokens(path, entry, 300)
    assert opened.shape == (entry.tokens,)
    assert opened.tobytes() == path.read_bytes()
    assert isinstance(opened, np.memmap)
    assert not opened.flags.writeable


def test_open_tokens_missing_file(tmp_path, token_file):
    with pytest.raises(UserError, match=r"train.bin: no such file; run the stage tokenize_to_memmap"):
        open_tokens(tmp_path / "train.bin", token_file[1], 300)


@pytest.mark.parametrize("cut", [1, 2, 3, 100])  # also in the middle of a token
def test_open_tokens_cut_file(copied, cut):
    path, entry = copied
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(
        UserError, match=f"{entry.tokens * 2 - cut:,} bytes, but meta.json says {entry.tokens:,} tokens"
    ):
        open_tokens(path, entry, 300)


def test_open_tokens_empty_file(copied):
    path, entry = copied
    path.write_bytes(b"")
    with pytest.raises(UserError, match="0 bytes, but meta.json says"):
        open_tokens(path, entry, 300)


def test_open_tokens_flipped_bit(copied):
    path, entry = copied
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="its sha256 is not the one in meta.json"):
        open_tokens(path, entry, 300)


def test_open_tokens_token_beyond_vocabulary(copied):
    path, entry = copied
    largest = int(np.fromfile(path, "<u2").max())
    assert open_tokens(path, entry, largest + 1).max() == largest
    with pytest.raises(UserError, match=f"holds token {largest}, but the vocabulary has {largest} entries"):
        open_tokens(path, entry, largest)


@pytest.mark.parametrize("field", ["tokens", "sha256"])
def test_open_tokens_wrong_entry(copied, field):
    path, entry = copied
    other: dict[str, Any] = {"tokens": entry.tokens + 1, "sha256": "0" * 64}
    with pytest.raises(UserError, match="run the stage tokenize_to_memmap again"):
        open_tokens(path, entry.model_copy(update={field: other[field]}), 300)


def test_matching_tokenizer_accepts_its_own(meta, tokenizer_file):
    assert matching_tokenizer(meta, tokenizer_file).get_vocab_size() == 300


def test_matching_tokenizer_accepts_a_checkpoints_copy(tmp_path, meta, tokenizer_file):
    values, path = json.loads(tokenizer_file.read_text()), tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**values, "post_processor": PUTS_END_OF_TEXT_FIRST}))
    assert matching_tokenizer(meta, path).to_str(pretty=True) + "\n" == tokenizer_file.read_text()
    values["model"]["merges"][:2] = values["model"]["merges"][1::-1]
    path.write_text(json.dumps({**values, "post_processor": PUTS_END_OF_TEXT_FIRST}))
    with pytest.raises(UserError, match="not the tokenizer that the token files were made with"):
        matching_tokenizer(meta, path)


def test_matching_tokenizer_refuses_another(tmp_path, meta, stories):
    save_tokenizer(train_tokenizer(stories, 299, total_bytes=1), tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match="not the tokenizer that the token files were made with"):
        matching_tokenizer(meta, tmp_path / "tokenizer.json")


def test_matching_tokenizer_refuses_wrong_vocab_size(meta, tokenizer_file):
    with pytest.raises(UserError, match=r"tokenizer.json: 300 entries, but meta.json says 400"):
        matching_tokenizer(meta.model_copy(update={"vocab_size": 400}), tokenizer_file)


def test_matching_tokenizer_never_loads_another(tmp_path, meta, monkeypatch):
    """It could be one that fills the memory."""
    monkeypatch.setattr(token_files, "load_tokenizer", lambda path: pytest.fail("it was loaded"))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not the tokenizer that the token files were made with"):
        matching_tokenizer(meta, tmp_path / "tokenizer.json")


def test_check_counts_accepts_true_counts(token_file, tokenizer, monkeypatch):
    path, entry = token_file
    for block in (7, entry.tokens - 1, entry.tokens, 2**20):
        monkeypatch.setattr(token_files, "BLOCK_TOKENS", block)
        check_counts(path, open_tokens(path, entry, 300), entry, tokenizer)


@given(texts=STORIES)
def test_check_counts_any_text(tokenizer, texts):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "tokens.bin"
        entry = write_tokens(iter(texts), tokenizer, path, total_bytes=1)
        check_counts(path, open_tokens(path, entry, 300), entry, tokenizer)


@pytest.mark.parametrize("field", ["stories", "bytes"])
@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_check_counts_refuses_wrong_counts(token_file, tokenizer, field, change):
    """Bits per byte would be wrong by as much, and no checksum would tell."""
    path, entry = token_file
    wrong = entry.model_copy(update={field: getattr(entry, field) + change})
    with pytest.raises(UserError, match=r"train.bin: 60 stories of [\d,]+ bytes, but meta.json says [\d,]+ stories of"):
        check_counts(path, open_tokens(path, wrong, 300), wrong, tokenizer)


def test_matching_tokenizer_missing_file(tmp_path, meta):
    with pytest.raises(UserError, match=r"tokenizer.json: no such file; run the stage train_tokenizer"):
        matching_tokenizer(meta, tmp_path / "tokenizer.json")
