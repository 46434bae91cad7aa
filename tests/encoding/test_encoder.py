"""Encoding gives the ids of `tokenizers`, whatever the text, by gigatoken and without it."""

import os
import random
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from tinystories.common.errors import UserError
from tinystories.common.special_tokens import END_OF_TEXT
from tinystories.corpus.stories import blocks_of, read_stories
from tinystories.encoding import encoder
from tinystories.encoding.encoder import encode_blocks, encode_with_tokenizers
from tinystories.sources import storygen
from tinystories.tokenization import fast
from tinystories.tokenizer_training.bpe import train_tokenizer

SPACES = re.findall(r"\s", "".join(map(chr, range(0x110000))))

# What patterns, merges and special tokens might trip over.
PIECES = [
    END_OF_TEXT, "<|endof", "text|>", " <|", "a", "cat", "Lily", "happy.", "'s", "'", "'ll", "'LL", "’s", "I'm", "7",
    "2026", "३", "Ⅷ", "½", "é", "e\u0301", "\u0301", "ß", "猫", "ไทย", "🐉", "👩\u200d👧", "🇬🇧", "Ġ", "Ċ", "\0",
    "\x1c", "\x1f", "\x7f", "\u180e", "\u200b", "\u2060", "\ufeff", "\ud7ff", "\U0010ffff", ".", ",", "—", "...",
    "\r\n", "  ", "   ", "\n\n",
]  # fmt: skip
TEXT = (
    st.lists(st.sampled_from(PIECES + SPACES) | st.text(max_size=2)).map("".join)
    | st.lists(st.sampled_from([*PIECES, " ", "\n"])).map("".join)
    | st.text()
)


@pytest.fixture(scope="module", params=[257, 1000, 5000])
def tokenizer(request) -> Tokenizer:
    """Tokenizers of several sizes. The smallest has bytes only, the others also merges of odd characters and spaces."""
    draw = random.Random(0)
    texts = ["".join(draw.choices(PIECES + SPACES + 5 * [" ", "\n"], k=50)) for _ in range(3000)]
    return train_tokenizer([*storygen.stories(seed=3, start=0, count=300), *texts], request.param, total_bytes=1)


one_tokenizer = pytest.mark.parametrize("tokenizer", [5000], indirect=True)


@pytest.fixture(autouse=True)
def no_warnings_yet(monkeypatch):
    monkeypatch.setattr(fast, "_warned", set())


def encode(stories: Iterable[str], tokenizer: Tokenizer, block_bytes: int = 2**22) -> list[int]:
    ids: list[int] = np.frombuffer(b"".join(encode_blocks(blocks_of(stories, block_bytes), tokenizer)), "<u2").tolist()
    return ids


def expected(stories: Iterable[str], tokenizer: Tokenizer) -> list[int]:
    encodings = tokenizer.encode_batch(list(stories), add_special_tokens=False)
    return [number for story in encodings for number in [*story.ids, 0]]


def sample() -> Path:
    root = Path(__file__).parents[2]
    path = Path(os.environ.get("TINYSTORIES_SAMPLE") or root / "../shared/data/tinystories")
    if not (path / "train.txt").exists():
        pytest.skip("no real stories here: set TINYSTORIES_SAMPLE to a directory with train.txt and valid.txt")
    return path


@pytest.fixture(scope="module")
def block_encoder(tokenizer) -> encoder.BlockEncoder:
    return encoder.BlockEncoder(tokenizer)


@given(texts=st.lists(TEXT, max_size=4), block_bytes=st.sampled_from([1, 20, 2**22]))
@example(texts=["", " ", "a", "a ", " a", "a  b", "a \n b", "\n\n\n", f"a {END_OF_TEXT} b{END_OF_TEXT}"], block_bytes=1)
def test_block_encoder_any_text(tokenizer, block_encoder, texts, block_bytes):
    ids = b"".join(block_encoder.encode(block.data) for block in blocks_of(texts, block_bytes))
    assert np.frombuffer(ids, "<u2").tolist() == expected(texts, tokenizer)


@given(texts=st.lists(TEXT, max_size=4), piece_bytes=st.sampled_from([0, 2, 20]))
def test_encode_with_tokenizers_any_text(tokenizer, texts, piece_bytes):
    """However the text is parted."""
    data = "".join(f"{text}{END_OF_TEXT}" for text in texts).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "PIECE_BYTES", piece_bytes)
        ids = np.frombuffer(encode_with_tokenizers(data, tokenizer), "<u2").tolist()
    assert ids == expected(texts, tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize(("vocab_size", "learned_from"), [(1000, 500), (10_000, None)])
def test_encode_blocks_real_stories(vocab_size, learned_from):
    train, valid = (list(read_stories(sample() / f"{name}.txt")) for name in ("train", "valid"))
    tokenizer = train_tokenizer(train[:learned_from], vocab_size, total_bytes=1)
    for stories in (train, valid):
        assert encode(stories, tokenizer) == expected(stories, tokenizer)


def test_encode_blocks_generated_stories(tokenizer):
    stories = list(storygen.stories(seed=1, start=0, count=1000))
    assert encode(stories, tokenizer) == expected(stories, tokenizer)


@one_tokenizer
def test_block_encoder_every_character(tokenizer, block_encoder):
    """Of every script, and all of Unicode's whitespace; of large blocks of one kind of character the ends alone.

    64 are a block: one that gigatoken does not know does not hide the others.
    """
    ranges = [(0, 0x3500), (0x4D00, 0x4E10), (0x9F00, 0xAC10), (0xD700, 0xD800), (0xF900, 0x11000), (0x1F000, 0x1FB00)]
    starts = [start for first, end in ranges for start in range(first, end, 64)]
    stories = ["".join(f"{chr(c)}  a{chr(c)} {chr(c)}\n" for c in range(start, start + 64)) for start in starts]
    ids = b"".join(block_encoder.encode(block.data) for block in blocks_of(stories, 1))
    assert np.frombuffer(ids, "<u2").tolist() == expected(stories, tokenizer)


def test_encode_blocks_character_of_newer_unicode(capsys):
    """gigatoken takes U+088F for a letter, tokenizers for a character like a full stop, which it joins."""
    from gigatoken import Tokenizer as Fast

    if fast._is_character_alike("\u088f"):
        pytest.skip("gigatoken and tokenizers are of the same version of Unicode")
    texts = ["a\u088f. a\u088f."] * 20
    tokenizer = train_tokenizer(texts, 261, total_bytes=1)
    assert Fast(tokenizer).encode_batch_list(texts[:1])[0] != expected(texts[:1], tokenizer)[:-1]
    assert encode(["a", *texts], tokenizer, 1) == expected(["a", *texts], tokenizer)
    assert capsys.readouterr().out.count("warning: gigatoken and tokenizers differ over the character U+088F:") == 1


@one_tokenizer
def test_encode_blocks_long_words(tokenizer):
    stories = ["x y" + "z!" * 3000 + " 1", "猫犬" * 3000, "ab" * 100_000, " " * 100_000, "!" * 100_000 + " a b"]
    assert encode(stories, tokenizer) == expected(stories, tokenizer)


@one_tokenizer
def test_encode_blocks_bounded_cache(tokenizer, monkeypatch):
    """Where the process has grown, a new encoder is made: here after every block."""
    monkeypatch.setattr(encoder, "CACHE_BYTES", -(2**50))
    made = []
    renew = encoder.BlockEncoder._renew

    def counted(self: encoder.BlockEncoder) -> None:
        made.append(self)
        renew(self)

    monkeypatch.setattr(encoder.BlockEncoder, "_renew", counted)
    stories = [f"One day {name} went home." * 2 for name in range(20)]
    assert encode(stories, tokenizer, 1) == expected(stories, tokenizer)
    assert len(made) == 21


@one_tokenizer
def test_encode_blocks_reads_lazily(tokenizer):
    taken = 0

    def stories() -> Iterator[str]:
        nonlocal taken
        for taken in range(1000):  # noqa: B007
            yield "ten bytes."

    next(encode_blocks(blocks_of(stories(), 100), tokenizer))
    assert taken < 50


class Wrong:
    """Stands for a gigatoken that gives other ids, or fails."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def __call__(self, tokenizer: Tokenizer) -> Any:
        from gigatoken import Tokenizer as Fast

        def encode(source: Any, **options: Any) -> Any:
            rows, lengths = right.encode_batch_padded(source, **options)
            return self.change(rows), lengths

        right = Fast(tokenizer)
        return SimpleNamespace(encode_batch_padded=encode)


def more(rows: Any) -> Any:
    return np.concatenate([rows, rows], axis=1)


@one_tokenizer
@pytest.mark.parametrize("change", [more, lambda rows: rows[:, :-1]])
def test_encode_blocks_refuses_other_length(tokenizer, monkeypatch, change):
    monkeypatch.setattr(encoder, "gigatoken", lambda: SimpleNamespace(Tokenizer=Wrong(change)))
    with pytest.raises(
        UserError, match=r"^gigatoken .* and tokenizers .* give different ids for 'a happy cat.*pip uninst"
    ):
        encode(["a happy cat"], tokenizer)


@one_tokenizer
def test_encode_blocks_refuses_other_ids_of_a_sample(tokenizer, monkeypatch):
    letters = {tokenizer.id_to_token(number): number for number in range(1, 257)}
    spelt = np.array([[*(letters[c] for c in "cat"), 0]])
    assert len(expected(["cat"], tokenizer)) < 4
    monkeypatch.setattr(encoder, "gigatoken", lambda: SimpleNamespace(Tokenizer=Wrong(lambda rows: spelt)))
    with pytest.raises(UserError, match="give different ids for 'cat"):
        encode(["cat"], tokenizer)


@one_tokenizer
def test_encode_blocks_samples_every_block(tokenizer, monkeypatch):
    """A wrong id anywhere in what is sampled of a later, larger block is found; samples stand elsewhere in each."""
    data = "".join(f"story {number} went home. {END_OF_TEXT}" for number in range(9000)).encode()
    pieces = [piece for number in range(50) if (piece := fast.sample(data, number))]
    assert len(set(pieces)) == 50
    assert all(
        fast.SAMPLE_BYTES <= end - start < fast.SAMPLE_BYTES + 50 for start, end in pieces[1:] if end < len(data)
    )
    whole = encode_with_tokenizers(data, tokenizer)
    for start, end in pieces:
        assert encode_with_tokenizers(data[start:end], tokenizer) in whole


class PanicException(BaseException):
    pass


@one_tokenizer
@pytest.mark.parametrize("error", [RuntimeError("no"), PanicException("no")])
def test_encode_blocks_falls_back_on_failure(tokenizer, monkeypatch, capsys, error):
    def fail(rows: Any) -> Any:
        raise error

    monkeypatch.setattr(encoder, "gigatoken", lambda: SimpleNamespace(Tokenizer=Wrong(fail)))
    texts = ["a happy cat", "Lily"]
    assert encode(texts, tokenizer, 1) == expected(texts, tokenizer)
    assert capsys.readouterr().out.count("warning: gigatoken does not work (no): tokenizers does its work, slower") == 1


@one_tokenizer
def test_encode_blocks_without_gigatoken_warns_once(tokenizer, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    fast.gigatoken.cache_clear()
    try:
        for _ in range(2):
            assert encode(["a happy cat", "Lily"], tokenizer, 1) == expected(["a happy cat", "Lily"], tokenizer)
    finally:
        fast.gigatoken.cache_clear()
    assert capsys.readouterr().out.count("warning: gigatoken does not work (") == 1


def other_prefix(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def other_normalizer(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Strip()


def other_token(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("park. ", normalized=False)])


def other_length(tokenizer: Tokenizer) -> None:
    tokenizer.enable_truncation(20)


@pytest.mark.parametrize("change", [other_prefix, other_normalizer, other_token, other_length])
def test_encode_blocks_not_standard(stories, change):
    tokenizer = train_tokenizer(stories, 300, total_bytes=1)
    change(tokenizer)
    with pytest.raises(ValueError, match="the tokenizer has not the form"):
        encode(["a"], tokenizer)


@one_tokenizer
def test_encode_blocks_does_not_warn(tokenizer, capfd, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encode(["a — “b” é"], Tokenizer.from_file(str(tmp_path / "tokenizer.json")))
    assert capfd.readouterr() == ("", "")
