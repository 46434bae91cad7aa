"""The stage `plot` writes report and figure, or nothing where a table is missing."""

import pytest

from tests.support.report_files import epoch_rows
from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.reporting.plot import plot
from tinystories.reporting.report import loss_table


def test_plot_writes_report_and_figure_and_prints_the_table(run, params, capsys):
    plot(params)
    assert paths.REPORT.read_text().startswith("# GPT, 8.9 M parameters")
    assert paths.PLOT.read_bytes().startswith(b"\x89PNG")
    assert loss_table(epoch_rows(2)) in capsys.readouterr().out


@pytest.mark.parametrize("path", [paths.HISTORY, paths.EPOCHS])
def test_plot_writes_nothing_without_a_table(run, params, path):
    path.unlink()
    with pytest.raises(UserError, match=f"^{path}: no such file; run the stage that writes it"):
        plot(params)
    assert not paths.REPORT.exists()
    assert not paths.PLOT.exists()
