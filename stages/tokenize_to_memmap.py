"""Stage `tokenize_to_memmap`: encode both splits as uint16 token files (params: checks, model.context_length)."""

import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common.params import Params
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    from tinystories.encoding.checks import check_corpus  # slow to import: the parameters are checked first
    from tinystories.encoding.writer import tokenize_to_memmap

    tokenize_to_memmap(params.data.engine)
    check_corpus(params)


if __name__ == "__main__":
    run_stage(main)
