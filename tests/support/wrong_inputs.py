"""Token files and tokenizers that do not fit each other, for the stages that must refuse them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinystories.common import paths
from tinystories.common.artifacts import TokenMeta
from tinystories.common.errors import UserError
from tinystories.common.files import write_json
from tinystories.tokenizer_training.bpe import save_tokenizer, train_tokenizer


def lie(split: str, **values: Any) -> None:
    """Change what meta.json says of a split."""
    meta = TokenMeta.read()
    meta.model_copy(update={split: getattr(meta, split).model_copy(update=values)}).write()


def rewrite(path: Path, split: str, tokens: Any) -> None:
    """Write other tokens, and a meta.json that agrees with them."""
    path.write_bytes(data := np.asarray(tokens, "<u2").tobytes())
    lie(split, tokens=len(tokens), sha256=hashlib.sha256(data).hexdigest())


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def replace_tokenizer(path: Path, stories: list[str]) -> None:
    save_tokenizer(train_tokenizer(stories[:40], 300, 1), path)


VALID = paths.TOKENS_VALID
Cases = dict[str, tuple[Callable[[list[str]], object], str]]  # what is changed, and what is said of it
TOKENS: Cases = {
    "tokens": (lambda stories: lie("valid", tokens=50), "bytes, but meta.json says 50 tokens of 2 bytes"),
    "bytes": (
        lambda stories: lie("valid", bytes=5),
        "stories of [\\d,]+ bytes, but meta.json says 60 stories of 5 bytes",
    ),
    "stories": (lambda stories: lie("valid", stories=5), "60 stories of [\\d,]+ bytes, but meta.json says 5 stories"),
    "sha256": (lambda stories: lie("valid", sha256="0" * 64), "its sha256 is not the one in meta.json"),
    "odd length": (lambda stories: VALID.write_bytes(VALID.read_bytes()[:-1]), "bytes, but meta.json says"),
    "one bit": (lambda stories: flip_a_bit(VALID), "its sha256 is not the one in meta.json"),
    "beyond the vocabulary": (lambda stories: rewrite(VALID, "valid", [0, 300] * 20), "holds token 300, but the vocab"),
    "vocabulary": (
        lambda stories: TokenMeta.read().model_copy(update={"vocab_size": 301}).write(),
        "300 entries, but meta.json says 301",
    ),
    "not of the form": (
        lambda stories: write_json(paths.TOKENS_META, {"train": {}}),
        "meta.json: vocab_size is missing; run the stage",
    ),
    "no tokens": (lambda stories: VALID.unlink(), "no such file; run the stage tokenize_to_memmap"),
    "no meta": (lambda stories: paths.TOKENS_META.unlink(), "no such file; run the stage"),
}


def refuses(work: Callable[[], None], message: str) -> None:
    """Check that the work ends with this message, a regular expression, in one line."""
    with pytest.raises(UserError, match=message) as caught:
        work()
    assert str(caught.value).isprintable()
