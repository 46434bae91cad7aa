"""Figures of a corpus, from its token files and a sample of its text.

Everything is read in blocks, once, and computed on whole arrays: a second for 2 GB of text. Story lengths are exact.
What would take longer is estimated: duplicates from `SAMPLE_STORIES` stories, text from `SAMPLE_BYTES` bytes of each
file, spread over all of it. A smaller corpus is looked at as a whole.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID
from tinystories.tokenization.token_files import TOKEN_DTYPE, TokenArray

SAMPLE_STORIES = 2**17
SAMPLE_BYTES = 2**26
BLOCK_TOKENS = 2**21  # read at once
BLOCK_BYTES = 2**20  # of text, read at once

# UTF-8 that was read as Latin-1 or Windows-1252 and encoded again begins so: `â€™` for an apostrophe, `Ã©` for é. A
# replacement character stands for what a reader could not decode.
ODD_TEXT = ("â€".encode(), "â\x80".encode(), b"\xc3\x83\xc2", b"\xc3\x82\xc2", "\ufffd".encode())

_KEY_TOKENS = 8  # of a story, evenly spread, that decide with its length whether it is in the sample
_ODD_NUMBER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio

Lengths = npt.NDArray[np.int64]
Digests = npt.NDArray[np.uint64]


class Stories(NamedTuple):
    """Of a token file: the length of each story in tokens, and a 64-bit digest of each one in the sample.

    Two different stories among n have the same digest with a probability below n² / 2^65: for 2^17 stories 5e-10.
    """

    lengths: Lengths
    digests: Digests


class Text(NamedTuple):
    """Of a sample of a text file: counts of bytes, words, and of places with text that was decoded wrongly."""

    bytes: int
    words: int
    odd: int


def read_story_tokens(path: Path, one_in: int) -> Stories:
    """Read a token file. `one_in`: the share of stories whose digests are wanted, the same for files to be compared.

    The tokens of a story decide whether it is in the sample, so that two equal stories both are or both are not.
    """
    lengths, digests = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for block in story_blocks(path):
        ends = np.flatnonzero(block == END_OF_TEXT_ID)
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths.append(ends - starts)
        chosen = _keys(block, starts, ends) % np.uint64(one_in) == 0
        data = block.view(np.uint8).data
        size = TOKEN_DTYPE.itemsize
        found = b"".join(
            hashlib.blake2b(data[start * size : end * size], digest_size=8).digest()
            for start, end in zip(starts[chosen].tolist(), ends[chosen].tolist(), strict=True)
        )
        digests.append(np.frombuffer(found, np.uint64))
    return Stories(np.concatenate(lengths), np.concatenate(digests))


def story_blocks(path: Path) -> Iterator[TokenArray]:
    """Yield the tokens in blocks of whole stories, each followed by its end-of-text token."""
    with path.open("rb") as file:
        file.seek(TOKEN_DTYPE.itemsize)  # the end-of-text token before the first story
        rest = np.empty(0, TOKEN_DTYPE)
        while len(block := np.fromfile(file, TOKEN_DTYPE, BLOCK_TOKENS)):
            ends = np.flatnonzero(block == END_OF_TEXT_ID)
            if len(ends):
                yield np.concatenate([rest, block[: ends[-1] + 1]])
                rest = block[ends[-1] + 1 :]
            else:
                rest = np.concatenate([rest, block])


def _keys(block: TokenArray, starts: Lengths, ends: Lengths) -> npt.NDArray[np.uint64]:
    """Compute a number for each story from its length and some of its tokens. Equal stories have equal ones."""
    lengths = ends - starts
    keys = lengths.astype(np.uint64)
    for number in range(_KEY_TOKENS):
        keys = (keys ^ block[starts + lengths * number // _KEY_TOKENS]) * _ODD_NUMBER
        keys ^= keys >> np.uint64(32)
    return keys


def duplicates(digests: Digests) -> float:
    """Compute the share of stories that are copies of another one, the first of each not counted."""
    return 1 - len(np.unique(digests)) / len(digests) if len(digests) else 0.0


def overlap(valid: Digests, train: Digests) -> float:
    """Compute the share of validation stories that are training stories too."""
    return float(np.isin(valid, train).mean()) if len(valid) else 0.0


def read_text(path: Path) -> Text:
    """Read a file of stories in the canonical form, or blocks of it, evenly spread."""
    size = path.stat().st_size
    step = max(1, size // SAMPLE_BYTES) * BLOCK_BYTES
    counts = np.zeros(3, np.int64)
    with path.open("rb", buffering=0) as file:
        for first in range(0, size, step):
            file.seek(first)
            counts += _count(file.read(BLOCK_BYTES))
    return Text(*counts.tolist())


def _count(data: bytes) -> Text:
    """Count in a block. What a block's end cuts may be counted once more or less."""
    is_space = np.frombuffer(data, np.uint8) <= ord(" ")
    separators = data.count(END_OF_TEXT.encode())  # each is a word by this count
    words = int(np.count_nonzero(is_space[1:] > is_space[:-1])) - separators
    odd = 0 if data.isascii() else sum(map(data.count, ODD_TEXT))
    return Text(len(data), words, odd)
