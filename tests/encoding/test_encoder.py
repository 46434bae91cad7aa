"""Encoding gives the ids of `tokenizers`, whatever the text, by gigatoken and without it."""

import os
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from tinystories.common.special_tokens import END_OF_TEXT
from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.common.params import MAX_VOCAB_SIZE
from tinystories.corpus.stories import blocks_of, read_blocks, read_stories
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


def encode(stories: Iterable[str], tokenizer: Tokenizer) -> list[int]:
    ids: list[int] = np.frombuffer(b"".join(encode_stories(stories, tokenizer)), "<u2").tolist()
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


@given(texts=st.lists(TEXT, max_size=4), block_bytes=st.sampled_from([1, 2, 5, 20, 2**22]))
@example(texts=["", " ", "a", "a ", " a", "a  b", "a \n b", "\n\n\n", f"a {END_OF_TEXT} b{END_OF_TEXT}"], block_bytes=1)
def test_encode_stories_any_text(tokenizer, texts, block_bytes):
    """However much is taken at once: texts are grouped, or parted, anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "BLOCK_BYTES", block_bytes)
        assert encode(texts, tokenizer) == expected(texts, tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize(("vocab_size", "learned_from"), [(1000, 500), (10_000, None)])
def test_encode_stories_real_stories(vocab_size, learned_from):
    train, valid = (list(read_stories(sample() / f"{name}.txt")) for name in ("train", "valid"))
    tokenizer = train_tokenizer(train[:learned_from], vocab_size, total_bytes=1)
    for stories in (train, valid):
        assert encode(stories, tokenizer) == expected(stories, tokenizer)


def test_encode_stories_generated_stories(tokenizer):
    stories = list(storygen.stories(seed=1, start=0, count=1000))
    assert encode(stories, tokenizer) == expected(stories, tokenizer)


@one_tokenizer
def test_encode_stories_every_character(tokenizer):
    """Of the basic plane, which has all of Unicode's whitespace."""
    characters = map(chr, (*range(0xD800), *range(0xE000, 0x10000)))
    story = "".join(f"{c}  a{c} {c}\n" for c in characters)
    assert encode([story], tokenizer) == expected([story], tokenizer)


@one_tokenizer
def test_encode_stories_long_story_in_parts(tokenizer, monkeypatch):
    monkeypatch.setattr(encoder, "BLOCK_BYTES", 1000)
    story = " a bc\n\nd" * 2000
    assert max(map(len, encoder._parts([story]))) < 1010
    assert encode([story, "e"], tokenizer) == expected([story, "e"], tokenizer)


@one_tokenizer
def test_encode_stories_word_longer_than_block(tokenizer, monkeypatch):
    monkeypatch.setattr(encoder, "BLOCK_BYTES", 1000)
    stories = ["x y" + "z!" * 3000 + " 1", "猫犬" * 3000]
    assert encode(stories, tokenizer) == expected(stories, tokenizer)


@one_tokenizer
def test_encode_stories_bounded_cache(tokenizer, monkeypatch):
    remembered = []
    encode_by_word = encoder._encode_by_word

    def watched(texts: list[bytes], tokenizer: Tokenizer, known: dict[str, bytes]) -> bytes:
        remembered.append(sum(map(len, known)))
        return encode_by_word(texts, tokenizer, known)

    monkeypatch.setattr(encoder, "_encode_by_word", watched)
    monkeypatch.setattr(encoder, "BLOCK_BYTES", 100)
    monkeypatch.setattr(encoder, "CACHE_CHARACTERS", 200)
    stories = [f"One day {name} went home." * 2 for name in range(300)]
    assert encode(stories, tokenizer) == expected(stories, tokenizer)
    assert len(remembered) > 100
    assert 100 < max(remembered) <= 200


@one_tokenizer
def test_encode_stories_reads_lazily(tokenizer, monkeypatch):
    monkeypatch.setattr(encoder, "BLOCK_BYTES", 100)
    taken = 0

    def stories() -> Iterator[str]:
        nonlocal taken
        for taken in range(1000):  # noqa: B007
            yield "ten bytes."

    next(encode_stories(stories(), tokenizer))
    assert taken < 20


def other_prefix(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def other_normalizer(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Strip()


def other_token(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("park. ", normalized=False)])


def other_length(tokenizer: Tokenizer) -> None:
    tokenizer.enable_truncation(20)


@pytest.mark.parametrize("change", [other_prefix, other_normalizer, other_token, other_length])
def test_encode_stories_not_standard_warns_once(stories, change, capsys, monkeypatch):
    encoder._warn_not_standard.cache_clear()
    tokenizer = train_tokenizer(stories, 300, total_bytes=1)
    change(tokenizer)
    texts = ["  We went to the park. Then\n\nwe ran home. ", *stories]
    assert encode(texts, tokenizer) == expected(texts, tokenizer)
    assert encode(texts, tokenizer) == expected(texts, tokenizer)
    assert capsys.readouterr().out.count("warning: the tokenizer has not the form") == 1
    monkeypatch.setattr(encoder, "is_standard", lambda tokenizer: True)
    assert encode(texts, tokenizer) != expected(texts, tokenizer)


@one_tokenizer
def test_encode_stories_standard_does_not_warn(tokenizer, capsys, tmp_path):
    encoder._warn_not_standard.cache_clear()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encode(["a"], Tokenizer.from_file(str(tmp_path / "tokenizer.json")))
    assert capsys.readouterr().out == ""
