"""Stage `train`: train the model, or resume a stopped training (params: seed, model, train)."""

import os
import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common.params import Params
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    from tinystories.training.trainer import train  # torch takes seconds to import: the parameters are checked before

    train(params, experiment=os.environ.get("DVC_EXP_NAME"))


if __name__ == "__main__":
    run_stage(main, parallel=True)
