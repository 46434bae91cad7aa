"""Stage `train_tokenizer`: train the tokenizer on the training stories (params: tokenizer)."""

import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common.engine import check_engine
from tinystories.common.params import Params
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    check_engine(params.data.engine)  # before work that the stage tokenize_to_memmap would find done in vain
    from tinystories.tokenizer_training.bpe import train_and_save  # slow to import: the parameters are checked first

    train_and_save(params)


if __name__ == "__main__":
    run_stage(main)
