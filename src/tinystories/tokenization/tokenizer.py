"""The tokenizer: a byte-level BPE, which encodes any text without loss."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tinystories.common.errors import UserError, shorten
from tinystories.common.params import MAX_VOCAB_SIZE
from tinystories.common.reading import read_json
from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID


def is_standard(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer differs from what `train_tokenizer` makes only in its vocabulary and merges."""
    return _settings(json.loads(tokenizer.to_str())) == _standard_settings()


def untrained_tokenizer() -> Tokenizer:
    """Make a byte-level BPE with GPT-2's pre-tokenization, without a vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@cache
def byte_values() -> dict[str, int]:
    """The byte that each character of a byte-level BPE's entries stands for, as GPT-2 has numbered them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _standard_settings() -> dict[str, Any]:
    standard = untrained_tokenizer()
    standard.add_special_tokens([END_OF_TEXT])
    return _settings(json.loads(standard.to_str()))


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    """Flatten the contents of tokenizer.json, without vocabulary and merges."""
    model = {f"model.{key}": value for key, value in values["model"].items() if key not in ("vocab", "merges")}
    return {**model, **{key: value for key, value in values.items() if key != "model"}}


def without_additions(values: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of tokenizer.json without what a checkpoint's copy may have, from `train` or transformers.

    The end-of-text before each text, padding and truncation: this project's own code does without, or does it itself.
    """
    return {**values, "truncation": None, "padding": None, "post_processor": None}


def load_tokenizer(path: Path) -> Tokenizer:
    """Read tokenizer.json. Errors: UserError where it is missing, damaged, or not as `train_tokenizer` writes it.

    What a checkpoint's copy has besides is left out. Another one is not even loaded: it could lose letters silently,
    fill the memory, or end the process.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; run the stage train_tokenizer")
    values = without_additions(read_json(path))
    if problem := _validation_error(values):
        raise UserError(f"{path}: {shorten(problem, 200)}; run the stage train_tokenizer again")
    try:
        return Tokenizer.from_str(json.dumps(values))
    except Exception as error:  # tokenizers raises plain Exception for anything it cannot parse
        problem = shorten(str(error), 200)
        raise UserError(f"{path}: not a tokenizer ({problem}); run the stage train_tokenizer again") from None


def load_tokenizer_of(directory: Path, vocab_size: int) -> Tokenizer:
    """Read the tokenizer of a checkpoint directory whose model has `vocab_size` entries.

    Errors: UserError as in `load_tokenizer`, and where the tokenizer has more entries or fewer.
    """
    tokenizer = load_tokenizer(directory / "tokenizer.json")
    if tokenizer.get_vocab_size() != vocab_size:
        raise UserError(
            f"{directory}: tokenizer.json has {tokenizer.get_vocab_size():,} entries, the model {vocab_size:,}; "
            "they are not of one training"
        )
    return tokenizer


def _validation_error(values: dict[str, Any]) -> str | None:
    """Find what keeps the contents of tokenizer.json from being a byte-level BPE as `train_tokenizer` makes it."""
    model = values.get("model")
    if not isinstance(model, dict):
        return "not a tokenizer (it has no model)"
    vocabulary, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or vocabulary.get(END_OF_TEXT) != END_OF_TEXT_ID:
        return f"has no {END_OF_TEXT} as entry {END_OF_TEXT_ID}"
    settings, expected = _settings(values), _standard_settings()
    for key in sorted(settings.keys() | expected.keys()):
        if settings.get(key) != expected.get(key):
            return f"its {key} is not what train_tokenizer writes"
    if [type(number) for number in vocabulary.values()] != [int] * len(vocabulary):
        return "not every entry of its vocabulary has a number"
    if len(vocabulary) > MAX_VOCAB_SIZE or sorted(vocabulary.values()) != list(range(len(vocabulary))):
        return f"its entries are not numbered from 0 to at most {MAX_VOCAB_SIZE - 1}"
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    if not letters <= vocabulary.keys() or not letters.issuperset("".join(vocabulary.keys() - {END_OF_TEXT})):
        return "its entries are not made of the 256 bytes"
    if not isinstance(merges, list) or not all(_joins(merge, vocabulary) for merge in merges):
        return "its merges do not join entries of the vocabulary to others"
    return None


def _joins(merge: Any, vocabulary: dict[str, int]) -> bool:
    """Whether a merge joins two entries of the vocabulary to a third."""
    pair = isinstance(merge, list) and len(merge) == 2 and all(isinstance(part, str) for part in merge)
    return pair and {*merge, "".join(merge)} <= vocabulary.keys()
