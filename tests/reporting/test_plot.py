"""The stage `plot` writes reports and figure, or nothing where a table is missing."""

import pytest

from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.reporting.plot import plot


def test_plot_writes_report_and_figure_and_prints_the_table(run, params, capsys):
    plot(params)
    assert paths.REPORT.read_text().startswith("# GPT, 8.9 M parameters")
    assert paths.REPORT_HTML.read_text().startswith("<!DOCTYPE html>")
    assert paths.PLOT.read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "epoch  train loss  train PPL  valid loss  valid PPL  bits/byte   tokens  time",
        "    1      3.1000      22.20      2.9000   1,234.50     0.4912   81,920  1:01",
        "    2      1.5500      22.20      1.4500   1,234.50     0.4912  163,840  2:03",
    ]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("path", [paths.HISTORY, paths.EPOCHS])
def test_plot_writes_nothing_without_a_table(run, params, path):
    path.unlink()
    with pytest.raises(UserError, match=f"^{path}: no such file; run the stage that writes it"):
        plot(params)
    assert not paths.REPORT.exists()
    assert not paths.REPORT_HTML.exists()
    assert not paths.PLOT.exists()
