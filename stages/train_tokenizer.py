"""Stage `train_tokenizer`: train the tokenizer, or take over the parent's (params: tokenizer, train.init_from)."""

import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common.engine import check_engine
from tinystories.common.params import Params
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    check_engine(params.data.engine)  # before work that the stage tokenize_to_memmap would find done in vain
    from tinystories.tokenizer_training.parent import prepare_tokenizer  # slow to import: the parameters come first

    prepare_tokenizer(params)


if __name__ == "__main__":
    run_stage(main)
