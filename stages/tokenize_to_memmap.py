"""Stage `tokenize_to_memmap`: encode both splits as uint16 token files (no params)."""

import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common.params import Params
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    from tinystories.encoding.writer import tokenize_to_memmap  # slow to import: the parameters are checked first

    tokenize_to_memmap()


if __name__ == "__main__":
    run_stage(main)
