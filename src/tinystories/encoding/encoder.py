"""Stories to the tokens of a token file, several times as fast as by `tokenizers` alone, with the same ids.

Text is a few thousand words over and over: Arrow finds the distinct words of some MB, the tokenizer encodes each once.

Why that gives the ids of whole stories: a word begins at a space or newline that follows a visible ASCII character.
GPT-2's pattern, which cuts text before anything is merged, always cuts there: none of its alternatives takes whitespace
after something else. What it takes on one side does not depend on the other side, and merges never cross its cuts.
`<|endoftext|>`, which the tokenizer takes out even before, holds no such place.
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

AT_ONCE = 2**22  # bytes of text whose words are found at once; takes up to 40 times as much memory
REMEMBERED = 2**20  # characters of words, about 150,000 words, whose ids are kept from one such text to the next
TO_TOKENIZER = 2**19  # bytes, or characters, that `tokenizers` gets at once: it takes more than 100 bytes for each

_WORD_END = re.compile(r"[!-~](?=[ \n])")

Text = TypeVar("Text", str, bytes)


def encode_stories(stories: Iterable[str], tokenizer: Tokenizer) -> Iterator[bytes]:
    """Blocks of a token file: the ids of each story, then the end-of-text token.

    The ids are those of `tokenizer.encode_batch_fast`. Memory is bounded, also for one story of any length that has
    spaces or newlines. A tokenizer of another form than ours may cut text elsewhere: it encodes whole stories, slower.
    """
    if is_standard(tokenizer):
        known: dict[str, bytes] = {}
        for texts in _groups(_texts(stories), AT_ONCE):
            yield _encode_by_word(texts, tokenizer, known)
            if sum(map(len, known)) > REMEMBERED:
                known.clear()  # the frequent ones soon come back
    else:
        _warn_of_another_form()
        for whole in _groups(stories, TO_TOKENIZER):
            yield b"".join(ids + END_OF_TEXT_BYTES for ids in _ids(whole, tokenizer))


def _texts(stories: Iterable[str]) -> Iterator[bytes]:
    """The stories, long ones in parts that end where a word does, and END_OF_TEXT after each story."""
    for story in stories:
        start = 0
        while len(story) - start > AT_ONCE and (end := _WORD_END.search(story, start + AT_ONCE)):
            yield story[start : end.end()].encode()
            start = end.end()
        yield story[start:].encode()
        yield END_OF_TEXT.encode()


def _encode_by_word(texts: list[bytes], tokenizer: Tokenizer, known: dict[str, bytes]) -> bytes:
    import pyarrow as pa  # not above: training reads token files, too, and does without it

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
    for new in _groups((word for word in distinct if word not in known), TO_TOKENIZER):
        known.update(zip(new, _ids(new, tokenizer), strict=True))
    ids = [known[word] for word in distinct]
    taken = pa.array(ids, pa.binary()).take(words.indices)
    _, ends, stored = taken.buffers()
    return bytes(stored[: np.frombuffer(ends, dtype=np.int32)[len(taken)]])


def _ids(texts: list[str], tokenizer: Tokenizer) -> list[bytes]:
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [np.asarray(encoding.ids, dtype=TOKEN_DTYPE).tobytes() for encoding in encodings]


def _groups(texts: Iterable[Text], size: int) -> Iterator[list[Text]]:
    """The texts in lists that end when they have grown to `size`."""
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
def _warn_of_another_form() -> None:
    warn("the tokenizer has not the form that train_tokenizer gives it: encoding takes several times as long")
