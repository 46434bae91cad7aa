"""Stage `plot`: draw plot.png and tell the run in report.md."""

import sys
from pathlib import Path

# This copy's src/ comes first: `dvc exp run --temp` and `--queue` run in a copy, an editable installation is elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tinystories.common.params import Params
from tinystories.common.stage import run_stage


def main(params: Params) -> None:
    from tinystories.common import paths  # heavy imports wait until the parameters are checked
    from tinystories.common.console import info
    from tinystories.reporting.plot import EPOCH_COLUMNS, HISTORY_COLUMNS, plot_run, read_table
    from tinystories.reporting.report import loss_table, run_title, write_report

    history = read_table(paths.HISTORY, HISTORY_COLUMNS)
    epochs = read_table(paths.EPOCHS, EPOCH_COLUMNS)
    write_report(params)
    plot_run(history, epochs, paths.PLOT, run_title(params))

    info(loss_table(epochs))
    info(f"The run told: {paths.REPORT}; its curves: {paths.PLOT}")
    info(f"Its stories: {paths.SAMPLES}/; all runs, with curves: mlflow ui")


if __name__ == "__main__":
    run_stage(main)
