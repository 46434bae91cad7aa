"""Stage `train_tokenizer`: learn the vocabulary from the training stories (params: tokenizer)."""

import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common import paths
from tinystories.common.params import Params
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    from tinystories.corpus.stories import read_stories
    from tinystories.tokenizer_training.bpe import save_tokenizer, train_tokenizer

    size = paths.RAW_TRAIN.stat().st_size
    tokenizer = train_tokenizer(read_stories(paths.RAW_TRAIN), params.tokenizer.vocab_size, size)
    save_tokenizer(tokenizer, paths.TOKENIZER)


if __name__ == "__main__":
    run_stage(main)
