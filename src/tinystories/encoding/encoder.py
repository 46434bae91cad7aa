"""Encode stories into the ids that `tokenizers` gives, several times as fast.

Text repeats a few thousand words: Arrow finds the distinct words of a block, and the tokenizer encodes each once.

Why that gives the ids of whole stories: a word begins at a space or newline that follows a visible ASCII character.
GPT-2's pre-tokenization pattern always cuts there: none of its alternatives takes whitespace after something else. What
it takes on one side does not depend on the other side, and merges never cross its cuts. `<|endoftext|>`, which the
tokenizer takes out before, holds no such place.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TypeVar

import numpy as np
from tokenizers import Tokenizer

from tinystories.common.console import warn
from tinystories.common.special_tokens import END_OF_TEXT
from tinystories.tokenization.token_files import END_OF_TEXT_BYTES, TOKEN_DTYPE
from tinystories.tokenization.tokenizer import is_standard

BLOCK_BYTES = 2**22  # of text whose distinct words are found at once; takes up to 40 times as much memory
CACHE_CHARACTERS = 2**20  # of words, about 150,000 of them, whose ids are cached from block to block
BATCH_CHARACTERS = 2**19  # that `tokenizers` encodes at once: it takes more than 100 bytes for each

_WORD_END = re.compile(r"[!-~](?=[ \n])")

Text = TypeVar("Text", str, bytes)


def encode_stories(stories: Iterable[str], tokenizer: Tokenizer) -> Iterator[bytes]:
    """Yield blocks of a token file: the ids of each story, then the end-of-text token.

    The ids are those of `tokenizer.encode_batch_fast`. Memory is bounded, also for a story of any length that has
    spaces or newlines. A tokenizer that is not standard may cut text elsewhere: it encodes whole stories, slower.
    """
    if is_standard(tokenizer):
        cached_ids: dict[str, bytes] = {}
        for texts in _batches(_parts(stories), BLOCK_BYTES):
            yield _encode_by_word(texts, tokenizer, cached_ids)
            if sum(map(len, cached_ids)) > CACHE_CHARACTERS:
                cached_ids.clear()  # the frequent words soon come back
    else:
        _warn_not_standard()
        for whole in _batches(stories, BATCH_CHARACTERS):
            yield b"".join(ids + END_OF_TEXT_BYTES for ids in _encode_batch(whole, tokenizer))


def _parts(stories: Iterable[str]) -> Iterator[bytes]:
    """Yield the stories as UTF-8, long ones in parts that end where a word does, and END_OF_TEXT after each story."""
    for story in stories:
        start = 0
        while len(story) - start > BLOCK_BYTES and (end := _WORD_END.search(story, start + BLOCK_BYTES)):
            yield story[start : end.end()].encode()
            start = end.end()
        yield story[start:].encode()
        yield END_OF_TEXT.encode()


def _encode_by_word(texts: list[bytes], tokenizer: Tokenizer, cached_ids: dict[str, bytes]) -> bytes:
    import pyarrow as pa  # slow to import, and needed only here

    data = b"".join(texts)
    codes = np.frombuffer(data, dtype=np.uint8)
    is_space = (codes == ord(" ")) | (codes == ord("\n"))
    is_visible = (codes > ord(" ")) & (codes < 127)
    is_cut = np.zeros(len(data) + 1, dtype=bool)
    is_cut[1:-1] = is_visible[:-1] & is_space[1:]
    is_cut[np.cumsum([0, *map(len, texts)])] = True
    cuts = np.flatnonzero(is_cut).astype(np.int32)
    words = pa.StringArray.from_buffers(len(cuts) - 1, pa.py_buffer(cuts), pa.py_buffer(data)).dictionary_encode()
    distinct = words.dictionary.to_pylist()
    for new in _batches((word for word in distinct if word not in cached_ids), BATCH_CHARACTERS):
        cached_ids.update(zip(new, _encode_batch(new, tokenizer), strict=True))
    ids = [cached_ids[word] for word in distinct]
    taken = pa.array(ids, pa.binary()).take(words.indices)
    _, ends, stored = taken.buffers()
    return bytes(stored[: np.frombuffer(ends, dtype=np.int32)[len(taken)]])


def _encode_batch(texts: list[str], tokenizer: Tokenizer) -> list[bytes]:
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [np.asarray(encoding.ids, dtype=TOKEN_DTYPE).tobytes() for encoding in encodings]


def _batches(texts: Iterable[Text], size: int) -> Iterator[list[Text]]:
    """Group the texts into lists, each ended when its total length reaches `size`."""
    group: list[Text] = []
    grown = 0
    for text in texts:
        group.append(text)
        grown += len(text)
        if grown >= size:
            yield group
            group, grown = [], 0
    if group:
        yield group


@cache
def _warn_not_standard() -> None:
    warn("the tokenizer has not the form that train_tokenizer gives it: encoding takes several times as long")
