"""Train the tokenizer: learn its vocabulary and merges from the training stories."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers, trainers

from tinystories.common import paths
from tinystories.common.console import progress
from tinystories.common.errors import UserError
from tinystories.common.files import write_text
from tinystories.common.params import Params
from tinystories.common.special_tokens import END_OF_TEXT
from tinystories.corpus.stories import read_stories
from tinystories.tokenization.tokenizer import untrained_tokenizer

# The time to train on a word grows with the square of its length: minutes for 500 kB without a space.
MAX_WORD_BYTES = 1000


def train_and_save(params: Params) -> None:
    """Train the tokenizer on the training stories, and write tokenizer.json."""
    total_bytes = paths.RAW_TRAIN.stat().st_size
    tokenizer = train_tokenizer(read_stories(paths.RAW_TRAIN), params.tokenizer.vocab_size, total_bytes)
    save_tokenizer(tokenizer, paths.TOKENIZER)


def train_tokenizer(stories: Iterable[str], vocab_size: int, total_bytes: int) -> Tokenizer:
    """Train a byte-level BPE (GPT-2's pre-tokenization, Radford et al. 2019) with exactly `vocab_size` entries.

    Entries: `<|endoftext|>`, the 256 bytes, then merges, most frequent first. A merge must occur twice.
    Training cuts words of more than MAX_WORD_BYTES bytes into pieces of that length; the tokenizer itself cuts nothing.
    The stories are streamed. `total_bytes`: size of the text, for the progress bar.
    Errors: UserError where the stories have too few distinct words for that many entries.
    """
    tokenizer = untrained_tokenizer()
    pre_tokenizer = tokenizer.pre_tokenizer
    pieces = pre_tokenizers.FixedLength(length=MAX_WORD_BYTES)  # of characters, which stand for one byte each here
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizer, pieces])
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
    tokenizer.pre_tokenizer = pre_tokenizer
    possible = tokenizer.get_vocab_size()
    if possible != vocab_size:
        raise UserError(
            f"tokenizer.vocab_size is {vocab_size:,}, but the training text gives only {possible:,} entries; "
            f"take more text, or: dvc exp run -S tokenizer.vocab_size={possible}"
        )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write tokenizer.json, which `tokenizers` and `transformers` read."""
    write_text(path, tokenizer.to_str(pretty=True) + "\n")
