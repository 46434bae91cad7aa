"""The `plot` stage: report.md, report.html, model_card.md and plot.png."""

from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, HistoryRow
from tinystories.common.console import info
from tinystories.common.params import Params
from tinystories.reporting.figure import plot_run
from tinystories.reporting.html_report import write_html_report
from tinystories.reporting.model_card import write_model_card
from tinystories.reporting.report import loss_table, run_title, write_report
from tinystories.reporting.series import warmup_share


def plot(params: Params) -> None:
    """Write both reports and the model card, draw the figure and print the loss/PPL table.

    Errors: UserError where a file of an earlier stage is missing or damaged.
    """
    history, epochs = HistoryRow.read_table(), EpochRow.read_table()
    write_report(params)
    write_html_report(params)
    write_model_card(params)
    plot_run(history, epochs, paths.PLOT, run_title(params), warmup_share(params.train))
    info(_without_bars(loss_table(epochs)))
    info(f"Report: {paths.REPORT_HTML}, {paths.REPORT}; figure: {paths.PLOT}")
    info(f"Samples: {paths.SAMPLES}/; all runs, with curves: mlflow ui")


def _without_bars(table: str) -> str:
    """The lines of a Markdown table without its bars and its rule, to fit into a terminal of 80 columns."""
    lines = [line for line in table.split("\n") if not line.startswith("| -")]
    return "\n".join(line[2:-2].replace(" | ", "  ") if line.startswith("|") else line for line in lines)
