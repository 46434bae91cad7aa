"""`tinystories compare`: table, files, wrong arguments. tests/tracking/test_recorded_runs.py reads stores."""

import shutil

import pytest

from tests.support.recorded_runs import recorded
from tests.support.repository import PARAMS
from tinystories.cli.main import main
from tinystories.common import paths
from tinystories.tracking import recorded_runs


@pytest.fixture
def asked(here, monkeypatch):
    """What the record was asked for; it has two runs. The current directory has the committed params.yaml."""
    calls: list[tuple[object, ...]] = []
    runs = [recorded(1, name="a \x1b[31m"), recorded(2, params={"seed": "2", "train.batch_size": "32"})]

    def read_runs(*arguments):
        calls.append(arguments)
        return runs, 3

    monkeypatch.setattr(recorded_runs, "read_runs", read_runs)
    monkeypatch.setenv("DVC_ROOT", str(here))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(PARAMS, paths.PARAMS)
    return calls


def test_compare_prints_the_table_and_writes_both(asked, here, capsys):
    assert main(["compare"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "#  run         bits/byte  valid loss  seed",
        "1  a \\x1b[31m     0.1000      2.2500     1",
        "2  run-2          0.2000      2.2500     2",
        "3 older runs left out: --last 5 shows all.",
        "Curves: reports/compare.png, reports/compare.html",
    ]
    assert paths.COMPARISON_PLOT.read_bytes().startswith(b"\x89PNG")
    assert "<title>2 trainings</title>" in paths.COMPARISON_PAGE.read_text()
    assert main(["compare", "one", "two"]) == main(["compare", "--last", "3"]) == 0
    store = f"sqlite:///{here.resolve()}/mlflow.db"
    assert asked == [(store, "tinystories", *what) for what in (([], 10), (["one", "two"], 10), ([], 3))]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--last", "0"], "should be a whole number from 1 on, not '0'"),
        (["--last", "x"], "should be a whole number from 1 on, not 'x'"),
        (["one", "--last", "2"], "names and --last exclude each other"),
    ],
)
def test_compare_refuses_in_one_line(asked, capsys, arguments, words):
    assert main(["compare", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and words in err and err.count("\n") == 1
    assert not asked and not paths.COMPARISON_PLOT.exists()
