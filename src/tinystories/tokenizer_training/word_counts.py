"""Count the words of the training stories, by `gigatoken` where it cuts them as `tokenizers` does."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tokenizers import pre_tokenizers

from tinystories.common.special_tokens import END_OF_TEXT
from tinystories.corpus.stories import StoryBlock
from tinystories.tokenization.fast import fall_back, gigatoken, is_split_alike, refuse, sample

MAX_WORDS = 400_000  # distinct ones; to learn merges from each takes half a kB

_SEPARATOR = END_OF_TEXT.encode()

_split = pre_tokenizers.ByteLevel(add_prefix_space=False)


class TooManyWords(Exception):
    """The text has more different words than memory is meant for."""


def count_words(blocks: Iterable[StoryBlock]) -> dict[bytes, int]:
    """Count each word that GPT-2's pattern cuts the stories into.

    Errors: UserError where gigatoken and tokenizers differ; TooManyWords where they are more than MAX_WORDS.
    """
    counts: dict[bytes, int] = {}
    for number, block in enumerate(blocks):
        for word, count in _count(block.data, number):
            counts[word] = counts.get(word, 0) + count
        if len(counts) > MAX_WORDS:
            raise TooManyWords
    return counts


def _count(data: bytes, number: int) -> Iterable[tuple[bytes, int]]:
    if gigatoken() and is_split_alike(data):
        try:
            counts = _count_fast(data)
            text_bytes = len(data) - data.count(_SEPARATOR) * len(_SEPARATOR)
            if sum(len(word) * count for word, count in counts) != text_bytes:
                raise refuse("words", data)
            if piece := sample(data, number):
                text = data[slice(*piece)]
                if dict(_count_fast(text)) != count_with_tokenizers(text):
                    raise refuse("words", text)
            return counts
        except BaseException as error:
            fall_back(error)
    return count_with_tokenizers(data).items()


def _count_fast(data: bytes) -> list[tuple[bytes, int]]:
    from gigatoken.gigatoken_rs import pretokenized_counts

    with _quiet():
        return pretokenized_counts(data, _SEPARATOR)


def count_with_tokenizers(data: bytes) -> Counter[bytes]:
    """Count the words of a block with `tokenizers` alone: the readable way, which defines what is right."""
    counts: Counter[bytes] = Counter()
    for story in data.decode().split(END_OF_TEXT):
        counts.update(story[start:end].encode() for _, (start, end) in _split.pre_tokenize_str(story))
    return counts


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what native code writes to stderr from the screen: gigatoken writes two lines for each block."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
