"""The validation slice: what it costs, which windows it has, and that a training with it keeps its bits."""

import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.train_results import delete_results
from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, HistoryRow, TokenMeta
from tinystories.common.params import Params, Train
from tinystories.common.signals import Stopped
from tinystories.tokenization.token_files import open_tokens
from tinystories.training import trainer as module
from tinystories.training.backend import Backend
from tinystories.training.step import TrainStep
from tinystories.training.trainer import train
from tinystories.training.validation_slice import SHARE, SPACING, is_due, slice_windows

LONG = np.arange(60_000, dtype=np.uint16)


def changed(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update=changes)})


def due(train: Train) -> list[int]:
    """The steps at which the slice is evaluated, of those that have a row."""
    found, last = [], 0
    for step in range(1, train.steps + 1):
        if step % train.log_every == 0 or step % train.steps_per_epoch == 0:
            found += [step] if is_due(step, last) else []
            last = step
    return found


@given(
    batch_size=st.integers(1, 70),
    epochs=st.integers(1, 4),
    steps_per_epoch=st.integers(1, 1500),
    log_every=st.integers(1, 100),
)
def test_slice_costs_no_more_than_its_share(small_params, batch_size, epochs, steps_per_epoch, log_every):
    changes = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "log_every": log_every}
    params = changed(small_params, batch_size=batch_size, **changes).train
    steps, windows = due(params), slice_windows(LONG, 12, batch_size)
    assert len(windows) == batch_size
    for count, step in enumerate(steps, start=1):
        assert count * len(windows) / batch_size / 3 <= SHARE * step
    assert bool(steps) == (params.steps >= SPACING)


@given(
    steps_per_epoch=st.integers(1, 1500),
    log_every=st.integers(1, 100),
    epochs=st.integers(1, 4),
    more=st.integers(1, 4),
)
def test_slice_of_a_longer_training_begins_as_that_of_a_shorter(small_params, steps_per_epoch, log_every, epochs, more):
    changes = {"steps_per_epoch": steps_per_epoch, "log_every": log_every}
    short, long = (changed(small_params, epochs=count, **changes).train for count in (epochs, epochs + more))
    assert due(short) == [step for step in due(long) if step <= short.steps]


@pytest.mark.parametrize(
    ("changes", "points", "windows"),
    [
        ({"batch_size": 8, "steps_per_epoch": 500, "log_every": 10}, 21, 8),  # make quickstart
        ({"batch_size": 32, "steps_per_epoch": 20_000, "log_every": 20}, 60, 32),  # the reference run
    ],
)
def test_slice_of_the_presets(small_params, changes, points, windows):
    params = changed(small_params, epochs=2, **changes).train
    steps = due(params)
    assert (len(steps), len(slice_windows(LONG, 12, params.batch_size))) == (points, windows)
    gaps = np.diff([0, *steps])
    assert gaps[:4].max() < gaps[-4:].min()  # dense at first


@pytest.mark.parametrize(
    ("tokens", "starts"),
    [(13, [0]), (24, [0]), (37, [0, 12, 24]), (8 * 12 + 1, [0, 24, 48, 72]), (119, [0, 24, 48, 72])],
)
def test_slice_windows_are_spread_over_the_file(small_params, tokens, starts):
    windows = slice_windows(LONG[:tokens], 12, batch_size=4)
    assert windows.tolist() == [list(range(start, start + 13)) for start in starts]


def test_slice_loss_is_that_of_its_windows(small_params, random_model):
    """In two batches."""
    step = TrainStep(small_params, 300, LONG[:300], Backend(torch.device("cpu"), torch.float32, compiled=False))
    step.model.load_state_dict(random_model().state_dict())
    windows = torch.from_numpy(np.random.default_rng(0).integers(300, size=(11, 13)))
    with torch.no_grad():
        expected = [step.model.loss(row[None, :-1], row[None, 1:]).item() for row in windows]
    assert step.slice_loss(windows) == pytest.approx(sum(expected) / 11, rel=1e-6)


@pytest.fixture
def params(workspace: Path, small_params: Params) -> Params:
    return changed(small_params, batch_size=8, steps_per_epoch=40, log_every=15)


def results() -> tuple[bytes, list[dict[str, Any]], list[dict[str, Any]]]:
    """The weights, and the tables without what time decides."""
    history = [row.model_dump(exclude={"seconds", "tokens_per_second"}) for row in HistoryRow.read_table()]
    epochs = [row.model_dump(exclude={"seconds"}) for row in EpochRow.read_table()]
    return (paths.CHECKPOINT / "model.safetensors").read_bytes(), history, epochs


def test_train_with_the_slice_has_the_bits_of_one_without(workspace, params, no_run, monkeypatch):
    train(params, None)
    weights, history, epochs = results()
    assert [row["step"] for row in history if row["valid_slice_loss"] is not None] == [40, 75]
    delete_results(workspace)
    monkeypatch.setattr(module, "is_due", lambda *_: False)
    shutil.rmtree(paths.state_directory())
    train(params, None)
    assert results() == (weights, [{**row, "valid_slice_loss": None} for row in history], epochs)


@pytest.mark.parametrize(("name", "call", "stops"), [("step", 20, [20, 40, 60, 80]), ("slice_loss", 1, [40, 75])])
def test_train_stopped_has_the_same_slice(workspace, params, no_run, monkeypatch, capsys, name, call, stops):
    """The signal comes in the middle, of every twentieth step or of every slice."""
    train(params, None)
    expected = results()
    delete_results(workspace)
    shutil.rmtree(paths.state_directory())
    function, calls = getattr(TrainStep, name), 0

    def signalled(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(signal.SIGTERM)
        return function(*given)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, name, signalled)
        for step in stops:
            calls = 0
            with pytest.raises(Stopped):
                train(params, None)
            assert f"Stopped at step {step};" in capsys.readouterr().out
    train(params, None)
    assert results() == expected


def test_train_for_one_step_has_no_slice(params, no_run):
    train(changed(params, epochs=1, steps_per_epoch=1), None)
    (row,) = HistoryRow.read_table()
    assert row.valid_slice_loss is None


def test_train_scores_a_set_smaller_than_the_slice(params, no_run, monkeypatch):
    """The slice is the set, but for a rest shorter than a window."""
    valid = open_tokens(paths.TOKENS_VALID, TokenMeta.read().valid, 300)
    monkeypatch.setattr(
        module, "slice_windows", lambda tokens, context, count: slice_windows(tokens[: 5 * 12 + 1], context, count)
    )
    seen: list[list[list[int]]] = []
    slice_loss = TrainStep.slice_loss

    def watched(step: TrainStep, windows: torch.Tensor) -> float:
        seen.append(windows.tolist())
        return slice_loss(step, windows)

    monkeypatch.setattr(TrainStep, "slice_loss", watched)
    train(params, None)
    assert seen[0] == seen[-1] == [valid[start : start + 13].tolist() for start in range(0, 60, 12)]
    assert HistoryRow.read_table()[2].valid_slice_loss
