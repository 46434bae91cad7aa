"""Stage `plot`: draw plot.png and write report.md and report.html (params: all)."""

import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common.params import Params
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    from tinystories.reporting.plot import plot  # heavy imports wait until the parameters are checked

    plot(params)


if __name__ == "__main__":
    run_stage(main)
