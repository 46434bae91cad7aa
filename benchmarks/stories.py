"""The real stories that quality is measured on, as token files: made once, the same for all recipes.

Three splits: `train`; `dev`, held out of the sample's training stories, on which recipes are searched; and `valid`, the
sample's validation stories, on which only final figures are computed.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tinystories.common.artifacts import TokenFile
from tinystories.common.console import info
from tinystories.common.errors import UserError
from tinystories.common.files import file_lock, sha256_of, write_json
from tinystories.common.reading import read_json
from tinystories.corpus.stories import read_stories
from tinystories.encoding.writer import write_tokens
from tinystories.tokenization.token_files import TokenArray, open_tokens
from tinystories.tokenizer_training.bpe import save_tokenizer, train_tokenizer

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".state" / "benchmarks"
VOCAB_SIZE = 10_000
DEV_FRACTION = 1 / 64  # so that 1,400 steps of the reference batch see no story of tinystories-v2 twice


@dataclass(frozen=True)
class Stories:
    """Where the token files of one sample lie, and what they hold. `key` tells samples apart, `name` names them."""

    directory: Path
    name: str
    key: str
    vocab_size: int
    splits: dict[str, TokenFile]  # train, dev, valid

    def tokens(self, name: str) -> TokenArray:
        """The tokens of `train`, `dev` or `valid`. Shape: (tokens,)."""
        return open_tokens(self.directory / f"{name}.bin", self.splits[name], self.vocab_size)


def prepare_stories(sample: Path | None = None, cache: Path = CACHE, vocab_size: int = VOCAB_SIZE) -> Stories:
    """Tokenizer and token files of the sample: train.txt and valid.txt in `sample` or $TINYSTORIES_SAMPLE.

    Errors: UserError where there is no sample.
    """
    sample = sample or Path(os.environ.get("TINYSTORIES_SAMPLE") or ROOT.parent / "shared/data/tinystories-v2")
    files = sample / "train.txt", sample / "valid.txt"
    if not all(file.is_file() for file in files):
        raise UserError(f"{sample}: no train.txt and valid.txt; TINYSTORIES_SAMPLE should name a folder with both")
    parts = (*(sha256_of(file) for file in files), vocab_size, DEV_FRACTION)
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
    directory = cache / f"stories-{key}"
    directory.mkdir(parents=True, exist_ok=True)
    with file_lock(directory / "lock", f"{directory}: waiting for another process that makes the token files"):
        if not (directory / "meta.json").exists():
            info(f"Making the token files in {directory}")
            write_json(directory / "meta.json", _make(directory, *files, vocab_size))
    meta = read_json(directory / "meta.json")
    return Stories(directory, sample.name, key, vocab_size, {name: TokenFile(**entry) for name, entry in meta.items()})


def _make(directory: Path, train_file: Path, valid_file: Path, vocab_size: int) -> dict[str, dict[str, object]]:
    stories = list(read_stories(train_file))
    # Of all of them: without the held-out ones there are too few different words for the reference vocabulary.
    tokenizer = train_tokenizer(stories, vocab_size, sum(map(len, stories)))
    save_tokenizer(tokenizer, directory / "tokenizer.json")
    splits = {
        "train": [story for story in stories if not _is_dev(story)],
        "dev": [story for story in stories if _is_dev(story)],
        "valid": list(read_stories(valid_file)),
    }
    return {
        name: write_tokens(split, tokenizer, directory / f"{name}.bin", sum(map(len, split))).model_dump()
        for name, split in splits.items()
    }


def _is_dev(story: str) -> bool:
    """By a hash of the story: its copies stay together, and the order of the file does not matter."""
    return int.from_bytes(hashlib.sha256(story.encode()).digest()[:8]) < DEV_FRACTION * 2**64
