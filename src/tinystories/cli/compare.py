"""`tinystories compare`: several trainings beside each other, from MLflow's record."""

import argparse

LAST = 10
EXAMPLES = """\
examples:
  tinystories compare                        the newest 10 runs
  tinystories compare --last 30
  tinystories compare wider deeper 1a2b3c4d  by their names, or how a run's id or a training's key begins

A table here; reports/compare.png and reports/compare.html with the curves. Ranked by bits per byte.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = EXAMPLES
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a run or a DVC experiment; or its id, or its key")
    parser.add_argument("--last", type=_count, metavar="N", help=f"the N newest runs ({LAST})")


def run(options: argparse.Namespace) -> None:
    """Print the table, and write the picture and the page."""
    import shutil
    import sys

    from tinystories.common import paths
    from tinystories.common.errors import UserError
    from tinystories.common.params_file import load_params
    from tinystories.tracking.mlflow_store import tracking_uri
    from tinystories.tracking.recorded_runs import read_runs

    if options.names and options.last:
        raise UserError("names and --last exclude each other; see tinystories compare --help")
    mlflow = load_params().mlflow
    uri = tracking_uri(mlflow.tracking_uri, paths.repository_root())
    runs, others = read_runs(uri, mlflow.experiment, options.names, options.last or LAST)

    from tinystories.reporting.comparison import as_text, compare
    from tinystories.reporting.comparison_figure import plot_comparison
    from tinystories.reporting.comparison_page import write_comparison_page

    comparison = compare(runs, others)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(*as_text(comparison.columns, comparison.rows, width), *comparison.notes, sep="\n")
    plot_comparison(comparison, paths.COMPARISON_PLOT)
    write_comparison_page(comparison, paths.COMPARISON_PAGE)
    print(f"Curves: {paths.COMPARISON_PLOT}, {paths.COMPARISON_PAGE}")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"should be a whole number from 1 on, not {text!r}")
    return int(text)
