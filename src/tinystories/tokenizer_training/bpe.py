"""Train the tokenizer: learn its vocabulary and merges from the training stories.

`train_tokenizer` is the readable way, by `tokenizers` alone, and defines what is right. `train_on_blocks` gives the
same many times as fast, and is the stage's way where gigatoken works.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers, trainers

from tinystories.common import paths
from tinystories.common.console import progress, warn
from tinystories.common.errors import UserError
from tinystories.common.files import write_text
from tinystories.common.params import Params
from tinystories.common.special_tokens import END_OF_TEXT
from tinystories.corpus.stories import StoryBlock, read_blocks, read_stories
from tinystories.tokenization.fast import gigatoken, refuse, sample
from tinystories.tokenization.tokenizer import untrained_tokenizer
from tinystories.tokenizer_training.merges import learn_merges
from tinystories.tokenizer_training.word_counts import MAX_WORDS, TooManyWords, count_with_tokenizers, count_words

# The time to train on a word grows with the square of its length: minutes for 500 kB without a space.
MAX_WORD_BYTES = 1000
CHECKED_ENTRIES = 1000  # at most, of the tokenizer that both ways learn from a sample


def train_and_save(params: Params) -> None:
    """Train the tokenizer on the training stories, and write tokenizer.json."""
    vocab_size, total_bytes = params.tokenizer.vocab_size, paths.RAW_TRAIN.stat().st_size
    tokenizer = None
    if gigatoken():
        try:
            tokenizer = train_on_blocks(read_blocks(paths.RAW_TRAIN), vocab_size, total_bytes)
        except TooManyWords:
            warn(f"more than {MAX_WORDS:,} different words: tokenizers trains the tokenizer, slower")
    if tokenizer is None:
        tokenizer = train_tokenizer(read_stories(paths.RAW_TRAIN), vocab_size, total_bytes)
    save_tokenizer(tokenizer, paths.TOKENIZER)


def train_on_blocks(blocks: Iterable[StoryBlock], vocab_size: int, total_bytes: int) -> Tokenizer:
    """Train as `train_tokenizer` does, with the words counted by gigatoken.

    Errors: UserError as there, and where gigatoken and tokenizers differ; TooManyWords.
    """
    with progress("Counting words", total_bytes) as bar:

        def counted() -> Iterator[StoryBlock]:
            for number, block in enumerate(blocks):
                if number == 0:
                    _check_merges(block.data)
                yield block
                bar.advance(len(block.data))

        counts = count_words(counted())
    return _checked_size(learn_merges(_pieces(counts), vocab_size), vocab_size)


def _pieces(counts: dict[bytes, int]) -> dict[bytes, int]:
    """Cut the words of more than MAX_WORD_BYTES, as `train_tokenizer` does."""
    pieces = {word: count for word, count in counts.items() if len(word) <= MAX_WORD_BYTES}
    for word in counts.keys() - pieces.keys():
        for start in range(0, len(word), MAX_WORD_BYTES):
            piece = word[start : start + MAX_WORD_BYTES]
            pieces[piece] = pieces.get(piece, 0) + counts[word]
    return pieces


def _check_merges(data: bytes) -> None:
    """Learn from a sample both ways. Errors: UserError where they differ."""
    if piece := sample(data, 0):
        text = data[slice(*piece)]
        learned = learn_merges(_pieces(count_with_tokenizers(text)), CHECKED_ENTRIES)
        expected = train_tokenizer(text.decode().split(END_OF_TEXT), learned.get_vocab_size(), len(text))
        if learned.to_str() != expected.to_str():
            raise refuse("merges", text)


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
    return _checked_size(tokenizer, vocab_size)


def _checked_size(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
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
