"""Token files: one long row of little-endian uint16, and a meta.json that says what they hold.

A file begins with the end-of-text token, and each story is followed by one, so that every token of every story is
predicted from something, and the model learns where stories begin and end.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.common.params import MAX_VOCAB_SIZE
from tinystories.common.reading import read_json
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.tokenization.tokenizer import load_tokenizer

TokenArray = npt.NDArray[np.uint16]

TOKEN_DTYPE = np.dtype("<u2")  # a token in a token file
END_OF_TEXT_BYTES = np.asarray([END_OF_TEXT_ID], dtype=TOKEN_DTYPE).tobytes()
MAX_COUNT = 2**53  # of tokens, stories or bytes: what every reader of JSON has exactly
BLOCK = 2**20  # tokens counted at once


@dataclass(frozen=True)
class Split:
    """What one token file holds: counts of tokens, stories and UTF-8 bytes of story text, and the file's sha256."""

    tokens: int
    stories: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class TokenMeta:
    """The contents of meta.json."""

    vocab_size: int
    tokenizer_sha256: str
    train: Split
    valid: Split


def read_meta(path: Path) -> TokenMeta:
    """Read meta.json. Errors: UserError where it is missing or not of this form."""
    values = read_json(path)
    try:
        meta = TokenMeta(
            vocab_size=values["vocab_size"],
            tokenizer_sha256=values["tokenizer_sha256"],
            train=Split(**values["train"]),
            valid=Split(**values["valid"]),
        )
        counts = (meta.vocab_size, *(n for s in (meta.train, meta.valid) for n in (s.tokens, s.stories, s.bytes)))
    except (KeyError, TypeError):
        counts = ()
    if not counts or any(type(count) is not int or not 1 <= count <= MAX_COUNT for count in counts):
        raise UserError(f"{path}: not the form that tokenize_to_memmap writes; run that stage again")
    return meta


def open_tokens(path: Path, split: Split, vocab_size: int) -> TokenArray:
    """Map a token file of shape (tokens,) into memory, checked against its entry in meta.json.

    The sha256 costs a second for the whole of TinyStories, and no figure is computed from other tokens than those.
    Errors: UserError where the file is missing, cut, altered, or holds a token beyond the vocabulary.
    """
    again = "run the stage tokenize_to_memmap again"
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage tokenize_to_memmap") from None
    if size != split.tokens * TOKEN_DTYPE.itemsize:
        raise UserError(f"{path}: {size:,} bytes, but meta.json says {split.tokens:,} tokens of 2 bytes; {again}")
    if sha256_of(path) != split.sha256:
        raise UserError(f"{path}: its sha256 is not the one in meta.json; {again}")
    tokens = np.memmap(path, dtype=TOKEN_DTYPE, mode="r")
    largest = int(tokens.max())
    if largest >= min(vocab_size, MAX_VOCAB_SIZE):
        raise UserError(f"{path}: holds token {largest:,}, but the vocabulary has {vocab_size:,} entries; {again}")
    return tokens


def check_counts(path: Path, tokens: TokenArray, split: Split, tokenizer: Tokenizer) -> None:
    """Make sure that the stories and bytes in meta.json are those of the tokens, of shape (tokens,).

    Bits per byte are computed from them. Errors: UserError with what was found.
    """
    # Each character of a byte-level BPE's entry stands for one byte.
    sizes = np.array([len(tokenizer.id_to_token(number) or "") for number in range(tokenizer.get_vocab_size())])
    sizes[END_OF_TEXT_ID] = 0
    counts = np.zeros(len(sizes), np.int64)
    for first in range(0, len(tokens), BLOCK):
        counts += np.bincount(tokens[first : first + BLOCK], minlength=len(sizes))
    stories, text_bytes = int(counts[END_OF_TEXT_ID]) - 1, int(counts @ sizes)
    if (stories, text_bytes) != (split.stories, split.bytes):
        raise UserError(
            f"{path}: {stories:,} stories of {text_bytes:,} bytes, but meta.json says {split.stories:,} stories of "
            f"{split.bytes:,} bytes; run the stage tokenize_to_memmap again"
        )


def matching_tokenizer(meta: TokenMeta, path: Path) -> Tokenizer:
    """Read tokenizer.json and make sure that the tokens are its own. Errors: UserError."""
    if path.exists() and sha256_of(path) != meta.tokenizer_sha256:
        raise UserError(f"{path}: not the tokenizer that the token files were made with; run tokenize_to_memmap again")
    tokenizer = load_tokenizer(path)
    if tokenizer.get_vocab_size() != meta.vocab_size:
        raise UserError(
            f"{path}: {tokenizer.get_vocab_size():,} entries, but meta.json says {meta.vocab_size:,}; "
            "run the stage tokenize_to_memmap again"
        )
    return tokenizer
