"""What the stage `train` writes: tables, metrics, and everything again after the training has ended."""

import time
from pathlib import Path

import pandas as pd
import pytest

from tests.support.saved_states import ROW
from tests.support.train_results import delete_results, read_results
from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, HistoryRow, TrainMetrics
from tinystories.training import results as module
from tinystories.training import trainer
from tinystories.training.results import train_metrics, write_tables
from tinystories.training.resume import TrainerState
from tinystories.training.step import TrainStep
from tinystories.training.trainer import train


@pytest.fixture(autouse=True)
def here(workspace: Path) -> Path:
    return workspace


EPOCH = EpochRow(
    epoch=1, train_loss=7.0, train_ppl=1096.6332, valid_loss=700.5, valid_ppl=1e304, valid_bits_per_byte=0.5,
    step=4, tokens=512, seconds=1e-05,
)  # fmt: skip


def test_train_metrics_gives_the_steady_rate_and_startup():
    """The first row contains compiling."""
    history = [ROW.model_copy(update={"tokens_per_second": rate}) for rate in (11.6, 128.0, 127.9, 140.0, 128.1)]
    state = TrainerState(started="then", startup_seconds=10.25, seconds=20.0, history=history, epochs=[EPOCH])
    metrics = train_metrics(state, parameters=9)
    assert (metrics.tokens_per_second, metrics.startup_seconds) == (128.0, 10.25)
    assert (metrics.steps, metrics.tokens, metrics.parameters, metrics.seconds) == (4, 512, 9, 20.0)
    assert {name: getattr(metrics, name) for name in ("train_loss", "train_ppl")} == {
        "train_loss": EPOCH.train_loss,
        "train_ppl": EPOCH.train_ppl,
    }


def test_write_tables_gives_what_pandas_would_write():
    """Numbers in the shortest form that reads back the same."""
    extreme = {"step": 2**53, "loss": 1e-05, "learning_rate": 4e-07, "gradient_norm": 1e15, "tokens_per_second": 0.0}
    state = TrainerState(started="then", history=[ROW, ROW.model_copy(update=extreme)], epochs=[EPOCH])
    write_tables(state)
    for path, rows in ((paths.HISTORY, state.history), (paths.EPOCHS, state.epochs)):
        expected = pd.DataFrame([row.model_dump() for row in rows]).to_csv(index=False, lineterminator="\n")
        assert path.read_bytes() == expected.encode()
    assert HistoryRow.read_table() == state.history
    assert EpochRow.read_table() == state.epochs


def test_train_writes_one_row_for_each_log_and_epoch(small_params, no_run):
    train(small_params, None)
    metrics, history, epochs = TrainMetrics.read(), HistoryRow.read_table(), EpochRow.read_table()
    assert [row.step for row in history] == [row.step for row in epochs] == [10, 20]
    assert metrics.train_loss == epochs[-1].train_loss
    assert metrics.tokens == history[-1].tokens == 20 * 4 * 12
    assert metrics.startup_seconds <= history[-1].seconds


def no_step(train_step: TrainStep, number: int) -> None:
    pytest.fail("a step was trained again")


def test_write_results_again_gives_the_same_bytes(here, small_params, no_run, monkeypatch, capsys):
    train(small_params, "first")
    expected = read_results(here)
    assert len(expected) == 20 and no_run.ended == ["FINISHED"]
    delete_results(here)
    monkeypatch.setattr(TrainStep, "step", no_step)
    monkeypatch.setattr(trainer, "AsyncRunLogger", lambda **_: pytest.fail("a run was opened"))
    monkeypatch.setattr(trainer, "describe_environment", lambda _: pytest.fail("this process did not train"))
    capsys.readouterr()
    train(small_params, "first")
    assert read_results(here) == expected
    (line,) = capsys.readouterr().out.splitlines()
    assert "its results are written again" in line and "make clean-state" in line


def test_write_results_stopped_costs_no_step(here, small_params, no_run, monkeypatch):
    """The last state is saved before, and stays while they are written again."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_checkpoint", lambda *_: pytest.fail("stopped here"))
        for _ in range(2):
            with pytest.raises(pytest.fail.Exception, match="stopped here"):
                train(small_params, None)
            patch.setattr(TrainStep, "step", no_step)
    monkeypatch.setattr(TrainStep, "step", no_step)
    train(small_params, None)
    assert paths.RUN.exists() and no_run.ended == ["FINISHED"]


def test_write_results_follows_the_umask(here, small_params, no_run):
    train(small_params, None)
    (here / "new").touch()
    expected = (here / "new").stat().st_mode
    assert {(here / name).stat().st_mode for name in read_results(here)} == {expected}


def test_startup_seconds_is_the_first_step_alone(small_params, no_run, monkeypatch):
    step = TrainStep.step

    def slow(train_step: TrainStep, number: int) -> None:
        time.sleep({0: 0.1, 5: 0.2}.get(number, 0))
        step(train_step, number)

    monkeypatch.setattr(TrainStep, "step", slow)
    train(small_params, None)
    assert 0.1 <= TrainMetrics.read().startup_seconds <= HistoryRow.read_table()[-1].seconds - 0.2
