"""The files between the stages: written and read back, or refused in one line that says what is wrong where."""

import pytest

from tests.support.report_files import epoch_rows, history_rows, write_run
from tinystories.common import paths
from tinystories.common.artifacts import (
    EpochIndex,
    EpochRow,
    Evaluation,
    HistoryRow,
    Manifest,
    Run,
    TokenMeta,
    TrainMetrics,
)
from tinystories.common.errors import UserError

HEADER = ",".join(HistoryRow.model_fields)
AGAIN = "; run the stage that writes it again (dvc repro -f -s train)"


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    """A finished run, in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_run(epochs=2)


@pytest.mark.parametrize("kind", [Manifest, TokenMeta, TrainMetrics, EpochIndex, Evaluation, Run])
def test_json_file_is_written_as_it_was_read(kind):
    before = kind.PATH.read_bytes()
    kind.read().write()
    assert kind.PATH.read_bytes() == before


def test_environment_keeps_more_keys():
    run = Run.read()
    more = run.environment.model_copy(update={"vector_units": "avx2", "kernels": True})
    run.model_copy(update={"environment": more}).write()
    assert Run.read().environment == more


def test_table_is_read_as_it_was_written():
    assert HistoryRow.read_table() == history_rows(19)
    assert EpochRow.read_table() == epoch_rows(2)
    assert paths.HISTORY.read_text().startswith(f"{HEADER}\n1,4096,9.5,,0.02,1.5,3912.6,1.1\n")


def test_read_table_accepts_more_columns_in_any_order():
    paths.HISTORY.write_text(
        "seconds,more,loss,step,tokens,gradient_norm,learning_rate,tokens_per_second\n7,x,2.25,1,2,3,1e-3,4"
    )
    (row,) = HistoryRow.read_table()
    expected = {"step": 1, "tokens": 2, "loss": 2.25, "learning_rate": 0.001, "gradient_norm": 3, "seconds": 7}
    assert row.model_dump() == {**expected, "tokens_per_second": 4, "valid_slice_loss": None}  # which older runs lack


def test_table_has_figures_that_are_not_in_every_row():
    first, second = history_rows(2)
    rows = [first, second.model_copy(update={"valid_slice_loss": 2.5})]
    HistoryRow.write_table(rows)
    assert [line.split(",")[3] for line in paths.HISTORY.read_text().splitlines()] == ["valid_slice_loss", "", "2.5"]
    assert HistoryRow.read_table() == rows


def row(loss: str, slice_loss: str = "") -> str:
    return f"1,2,{loss},{slice_loss},4,5,6,7\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{HEADER}\n", ": no row below the header"),
        ("", ": no row below the header"),
        ("step,tokens\n1,2\n", ", row 1: loss is missing"),
        (f"{HEADER}\n{row('2.5')}{row('low')}", ", row 2: loss is 'low', expected a number"),
        (f"{HEADER}\n{row('')}", ", row 1: loss is '', expected a number"),
        (f"{HEADER}\n{row('nan')}", ", row 1: loss is 'nan', expected a finite number"),
        (f"{HEADER}\n{row('inf')}", ", row 1: loss is 'inf', expected a finite number"),
        (f"{HEADER}\n{row('-2')}", ", row 1: loss is '-2', expected at least 0"),
        (f"{HEADER}\n{row('1e300')}", ", row 1: loss is '1e300', expected at most 1e+15"),
        (f"{HEADER}\n{row('x' * 10_000)}", ", row 1: loss is 'xxx"),
        (f"{HEADER}\n{row('2', 'low')}", ", row 1: valid_slice_loss is 'low', expected a number"),
        (f"{HEADER}\n{row('2', '-1')}", ", row 1: valid_slice_loss is '-1', expected at least 0"),
        (f"{HEADER}\n1.5,2,3,,4,5,6,7\n", ", row 1: step is '1.5', expected a whole number"),
        (f"{HEADER}\n{'9' * 5_000},2,3,,4,5,6,7\n", ", row 1: step is '999"),
        (f"{HEADER}\n1,2,3,,4,5,6,7,8\n", ": not readable as CSV (line 2 has 9 values, the header has 8)"),
        (f"{HEADER}\n1,2\n", ": not readable as CSV (line 2 has 2 values"),
        (f"{HEADER},loss\n1,2,3,,4,5,6,7,8\n", ": not readable as CSV (a column stands twice)"),
        (f"{HEADER}\n{row(chr(0))}", ", row 1: loss is '\\x00', expected a number"),
        (f"{HEADER}\n{row(chr(34) + '2')}", ": not readable as CSV"),
        (f"{HEADER}\n{row('2' * 200_000)}", ": not readable as CSV (field larger than"),
    ],
)
def test_read_table_names_the_problem_and_its_place(text, problem):
    paths.HISTORY.write_text(text)
    with pytest.raises(UserError) as raised:
        HistoryRow.read_table()
    message = str(raised.value)
    assert message.startswith(f"{paths.HISTORY}{problem}")
    assert message.endswith(AGAIN)
    assert message.isprintable() and len(message) < 400
