"""Learning the vocabulary from the training stories."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers, trainers

from tinystories.common.console import progress
from tinystories.common.errors import UserError
from tinystories.common.files import write_text
from tinystories.common.special_tokens import END_OF_TEXT
from tinystories.tokenization.tokenizer import untrained_tokenizer

# Bytes. The time to learn from a word grows with the square of its length: minutes for 500 kB without a space.
MAX_WORD_BYTES = 1000


def train_tokenizer(stories: Iterable[str], vocab_size: int, total_bytes: int) -> Tokenizer:
    """Learn a byte-level BPE (GPT-2's splitting, Radford et al. 2019) with exactly `vocab_size` entries.

    Entries are `<|endoftext|>`, the 256 bytes, then merges, most frequent first; a merge must occur twice.
    Words of more than MAX_WORD_BYTES bytes are learnt from in pieces of that length; the tokenizer itself cuts nothing.
    The stories are streamed; `total_bytes` of text serve the time left.
    Errors: UserError where the stories have too few different words for that many entries.
    """
    tokenizer = untrained_tokenizer()
    splitting = tokenizer.pre_tokenizer
    pieces = pre_tokenizers.FixedLength(length=MAX_WORD_BYTES)  # of characters that stand for one byte each by then
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([splitting, pieces])
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
    tokenizer.pre_tokenizer = splitting
    if tokenizer.get_vocab_size() != vocab_size:
        raise UserError(
            f"tokenizer.vocab_size is {vocab_size:,}, but the training stories give only "
            f"{tokenizer.get_vocab_size():,} entries; lower it to that or take more stories"
        )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write tokenizer.json, which `tokenizers` and `transformers` read."""
    write_text(path, tokenizer.to_str(pretty=True) + "\n")
