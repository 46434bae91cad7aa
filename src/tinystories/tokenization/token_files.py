"""Token files: a flat array of little-endian uint16, described by meta.json (`TokenMeta`).

A file begins with the end-of-text token, and each story is followed by one: every token of a story has a context to be
predicted from, and the model learns where stories begin and end.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tinystories.common.artifacts import TokenFile, TokenMeta
from tinystories.common.console import plural
from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.common.params import MAX_VOCAB_SIZE
from tinystories.common.reading import read_json
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.tokenization.tokenizer import load_tokenizer, without_additions

TokenArray = npt.NDArray[np.uint16]

TOKEN_DTYPE = np.dtype("<u2")  # a token in a token file
END_OF_TEXT_BYTES = np.asarray([END_OF_TEXT_ID], dtype=TOKEN_DTYPE).tobytes()
BLOCK_TOKENS = 2**20  # counted at once

_AGAIN = "run the stage tokenize_to_memmap again"


def open_tokens(path: Path, entry: TokenFile, vocab_size: int) -> TokenArray:
    """Map a token file into memory, checked against its entry in meta.json. Shape: (tokens,).

    The sha256 takes a second for the whole of TinyStories. Errors: UserError where the file is missing, cut or altered,
    or holds a token beyond the vocabulary.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage tokenize_to_memmap") from None
    if size != entry.tokens * TOKEN_DTYPE.itemsize:
        found, expected = plural(size, "byte"), plural(entry.tokens, "token")
        raise UserError(f"{path}: {found}, but meta.json says {expected} of 2 bytes; {_AGAIN}")
    if sha256_of(path) != entry.sha256:
        raise UserError(f"{path}: its sha256 is not the one in meta.json; {_AGAIN}")
    tokens = np.memmap(path, dtype=TOKEN_DTYPE, mode="r")
    largest = int(tokens.max())
    if largest >= min(vocab_size, MAX_VOCAB_SIZE):
        raise UserError(f"{path}: holds token {largest:,}, but the vocabulary has {vocab_size:,} entries; {_AGAIN}")
    return tokens


def check_counts(path: Path, tokens: TokenArray, entry: TokenFile, tokenizer: Tokenizer) -> None:
    """Check that the stories and bytes in meta.json are those of the tokens; bits per byte are computed from them.

    Shape of `tokens`: (tokens,). Errors: UserError with what was found.
    """
    # Each character of a byte-level BPE's entry stands for one byte.
    sizes = np.array([len(tokenizer.id_to_token(number) or "") for number in range(tokenizer.get_vocab_size())])
    sizes[END_OF_TEXT_ID] = 0
    counts = np.zeros(len(sizes), np.int64)
    for first in range(0, len(tokens), BLOCK_TOKENS):
        counts += np.bincount(tokens[first : first + BLOCK_TOKENS], minlength=len(sizes))
    stories, text_bytes = int(counts[END_OF_TEXT_ID]) - 1, int(counts @ sizes)
    if (stories, text_bytes) != (entry.stories, entry.bytes):
        raise UserError(
            f"{path}: {plural(stories, 'story')} of {plural(text_bytes, 'byte')}, but meta.json says "
            f"{plural(entry.stories, 'story')} of {plural(entry.bytes, 'byte')}; {_AGAIN}"
        )


def matching_tokenizer(meta: TokenMeta, path: Path) -> Tokenizer:
    """Read tokenizer.json or a checkpoint's copy, and check that the tokens were made with it. Errors: UserError."""
    if path.exists() and meta.tokenizer_sha256 not in (sha256_of(path), _sha256_of_original(path)):
        raise UserError(f"{path}: not the tokenizer that the token files were made with; run tokenize_to_memmap again")
    tokenizer = load_tokenizer(path)
    if tokenizer.get_vocab_size() != meta.vocab_size:
        raise UserError(
            f"{path}: {tokenizer.get_vocab_size():,} entries, but meta.json says {meta.vocab_size:,}; "
            "run the stage tokenize_to_memmap again"
        )
    return tokenizer


def _sha256_of_original(path: Path) -> str | None:
    """The sha256 of the file of which this is a checkpoint's copy; None where it is no JSON."""
    try:
        text = json.dumps(without_additions(read_json(path)), indent=2, ensure_ascii=False) + "\n"
    except UserError:
        return None
    return hashlib.sha256(text.encode()).hexdigest()
