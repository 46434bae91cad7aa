"""Stage `download`: get the stories (params: data)."""

import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common.engine import check_engine
from tinystories.common.params import Params
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    check_engine(params.data.engine)  # before work that the stage tokenize_to_memmap would find done in vain
    from tinystories.sources.prepare import prepare  # slow to import: the parameters are checked first

    prepare(params)


if __name__ == "__main__":
    run_stage(main)
