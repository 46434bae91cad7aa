"""The tokenizer: byte-level BPE, so that any text can be encoded and comes back the same."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tinystories.console import progress
from tinystories.errors import UserError
from tinystories.files import write_text

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0  # special tokens come first in the vocabulary


def train_tokenizer(stories: Iterable[str], vocab_size: int, total_bytes: int) -> Tokenizer:
    """Learn a byte-level BPE (GPT-2's splitting, Radford et al. 2019) with exactly `vocab_size` entries.

    Entries are `<|endoftext|>`, the 256 bytes, then merges, most frequent first; a merge must occur twice.
    The stories are streamed; `total_bytes` of text serve the time left.
    Errors: UserError where the stories have too few different words for that many entries.
    """
    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with progress("Counting words", total_bytes) as bar:

        def counted() -> Iterator[str]:
            for story in stories:
                bar.advance(len(story))
                yield story

        tokenizer.train_from_iterator(counted(), trainer=trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise UserError(
            f"tokenizer.vocab_size is {vocab_size:,}, but the training stories give only "
            f"{tokenizer.get_vocab_size():,} entries; lower it to that or take more stories"
        )
    return tokenizer


def has_our_form(tokenizer: Tokenizer) -> bool:
    """Whether it is, but for its vocabulary and merges, what `train_tokenizer` makes."""
    plain = _untrained()
    plain.add_special_tokens([END_OF_TEXT])
    return _form(tokenizer) == _form(plain)


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _form(tokenizer: Tokenizer) -> dict[str, Any]:
    form: dict[str, Any] = json.loads(tokenizer.to_str())
    del form["model"]["vocab"], form["model"]["merges"]
    return form


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write tokenizer.json, which `tokenizers` and `transformers` read."""
    write_text(path, tokenizer.to_str(pretty=True) + "\n")


def load_tokenizer(path: Path) -> Tokenizer:
    """Read tokenizer.json. Errors: UserError where it is missing, damaged or lacks `<|endoftext|>`."""
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage train_tokenizer") from None
    except Exception as error:  # tokenizers raises plain Exception for whatever it cannot parse
        raise UserError(f"{path}: not a tokenizer ({error}); run the stage train_tokenizer again") from None
    if tokenizer.token_to_id(END_OF_TEXT) != END_OF_TEXT_ID:
        raise UserError(f"{path}: has no {END_OF_TEXT} as entry {END_OF_TEXT_ID}; run the stage train_tokenizer again")
    return tokenizer
