"""Kept trunks: written whole or not at all, and bounded. Which of them fit a training, without training it."""

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.line_kills import kill
from tests.support.saved_states import ROW, save_one
from tests.support.trunks import changed, found, run, trunk_params
from tinystories.cli.main import main
from tinystories.common import paths
from tinystories.common.artifacts import Continued, EpochRow
from tinystories.common.epochs import epochs_with_samples
from tinystories.common.errors import UserError
from tinystories.common.params import Params, Train
from tinystories.model.checkpoint import copy_checkpoint, save_checkpoint
from tinystories.training import trunk as module
from tinystories.training.resume import ResumeCheckpoint, TrainerState
from tinystories.training.retention import prune_trunks, saved_trainings
from tinystories.training.schedule import trunk_end
from tinystories.training.step import TrainStep
from tinystories.training.trunk import Trunks, fits


@pytest.fixture
def params(workspace: Path, small_params: Params, no_run: object) -> Params:
    return trunk_params(small_params)


def test_keep_killed_at_any_line(params, random_model):
    """It leaves nothing half, and the next one completes it."""
    trunks, tensors = Trunks(params, "", {}), {"weights": torch.ones(3)}
    checkpoint = ResumeCheckpoint(paths.training_states() / ("0" * 64))
    save_checkpoint(random_model(), paths.TOKENIZER, checkpoint.epoch(1))
    state = TrainerState(started="then", step=4, kept_epochs=[1])

    def complete() -> list[bool]:
        kept = [ResumeCheckpoint(path) for path in found()]
        return [kept.load_one(path, tensors) is not None for kept in kept for path in kept.saved()]

    line = 0
    while True:
        line += 1
        if not kill(Trunks._keep, line, lambda: trunks.keep(checkpoint, tensors, state)):
            break
        assert complete() in ([], [True])
        trunks.keep(checkpoint, tensors, state)
        assert complete() == [True]
        shutil.rmtree(paths.trunk_states())
    assert line > 8


def test_train_without_room_for_the_trunk_warns(params, monkeypatch, capsys):
    def full(source: Path, target: Path) -> None:
        copy_checkpoint(source, target)
        raise OSError(28, "No space left on device", "trunk")

    expected = run(params)
    shutil.rmtree(".state")
    monkeypatch.setattr(module, "copy_checkpoint", full)
    assert run(params) == expected
    assert "warning: the state at the start of the cooldown is not kept" in capsys.readouterr().out
    assert found() == []


def test_train_that_diverges_leaves_no_trunk(params, monkeypatch):
    step = TrainStep.step

    def diverge(self: TrainStep, number: int) -> None:
        step(self, number)
        if number == 4:
            self.loss_sum.fill_(torch.nan)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", diverge)
        with pytest.raises(UserError, match=r"the training loss is nan at step 6.*train.warmup_steps larger"):
            run(params)
    assert found() == []


def test_kept_trunks_bounds_their_number(params, capsys):
    for seed in range(2):
        run(changed(params, kept_trunks=1).model_copy(update={"seed": seed}))
    assert len(found()) == 1
    main(["state"])
    assert capsys.readouterr().out.splitlines()[-1].split()[1:4] == ["4", "steps", "trunk"]
    run(changed(params, kept_trunks=0).model_copy(update={"seed": 3}))
    assert found() == []


def test_kept_trunk_gigabytes_bounds_their_size(params, capsys):
    run(changed(params, kept_trunk_gigabytes=1e-5))
    assert found() == []
    assert "is not kept: it has 0.00 GB, and train.kept_trunk_gigabytes is 1e-05" in capsys.readouterr().out


def test_prune_trunks_removes_the_longest_unused(tmp_path):
    for age, key in enumerate("abcd"):
        save_one(tmp_path, key, age, ended=None, numbers=2000)
    (tmp_path / "incomplete/epochs").mkdir(parents=True)

    def keys() -> list[str]:
        return [saved.key for saved in saved_trainings(tmp_path)]

    prune_trunks(tmp_path, 3, 1e9)
    assert keys() == ["a", "b", "c"]
    prune_trunks(tmp_path, 3, 20_000)
    assert keys() == ["a", "b"]
    prune_trunks(tmp_path, 0, 0)
    assert keys() == []


LENGTHS = {
    "epochs": st.integers(1, 14),
    "steps_per_epoch": st.integers(1, 9),
    "cooldown": st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    "log_every": st.integers(1, 12),
}


def trunk_state(train: Train, step: int) -> TrainerState:
    """The state of such a training after these steps, as far as it is compared."""
    state, last = TrainerState(started="then", step=step), 0
    for now in range(1, step + 1):
        if now % train.log_every == 0 or now % train.steps_per_epoch == 0:
            state.history.append(ROW.model_copy(update={"step": now}))
            last = now
        if now % train.steps_per_epoch == 0:
            number = now // train.steps_per_epoch
            figures = {
                **dict.fromkeys(EpochRow.model_fields, 0.0),
                "valid_loss": float(number),
            }  # the first is the best
            state.epochs.append(EpochRow.model_validate({**figures, "epoch": number, "step": now, "tokens": 0}))
            if number < train.epochs and number in epochs_with_samples(train.epochs):
                state.kept_epochs.append(number)
    state.last_logged_step = last
    return state


@given(st.fixed_dictionaries(LENGTHS), st.fixed_dictionaries(LENGTHS))
def test_fits_where_the_new_training_would_come_to_that_state(small_params, before, after):
    """The state of the one is that of the other after the same steps, but for weights that the other does not show."""
    old, new = (small_params.train.model_copy(update=changes) for changes in (before, after))
    state = trunk_state(old, trunk_end(old))
    if state.step > trunk_end(new):
        assert not fits(state, new)
        return
    own = trunk_state(new, state.step)
    is_due = len(own.epochs) == len(state.epochs) + 1 and own.epochs[-1].step == state.step  # to be validated
    same_epochs = own.epochs == state.epochs or (is_due and own.epochs[:-1] == state.epochs)
    ended = {len(state.epochs)} if state.epochs and state.epochs[-1].step == state.step else set()
    has_weights = {number for number in own.kept_epochs if number <= len(state.epochs)} <= {*state.kept_epochs, *ended}
    assert fits(state, new) == (own.history == state.history and same_epochs and has_weights)


def test_fits_only_with_the_weights_that_are_shown(small_params):
    old, new = (
        small_params.train.model_copy(update={"epochs": epochs, "steps_per_epoch": 2, "cooldown": 0.5})
        for epochs in (24, 32)
    )
    state = trunk_state(old, trunk_end(old))
    assert state.kept_epochs == [1, 6, 10] and epochs_with_samples(32)[:2] == [1, 7]
    assert not fits(state, new)
    state.kept_epochs.append(7)
    assert fits(state, new)


@pytest.mark.parametrize("epochs", range(1, 13))
@pytest.mark.parametrize("more", [1, 2, 3, 4, 8])
def test_needs_epoch_serves_longer_trainings(small_params, epochs, more):
    """Whatever is twelve epochs or less can be made longer by any number."""
    params = changed(small_params, epochs=epochs, cooldown=0.5)
    trunks, longer = Trunks(params, "", {}), params.train.model_copy(update={"epochs": epochs + more})
    state = trunk_state(params.train, trunks.end)
    state.kept_epochs = [row.epoch for row in state.epochs if trunks.needs_epoch(row.epoch)]
    assert fits(state, longer)


def test_continued_is_kept_with_the_state(tmp_path):
    continued = Continued(key="0" * 64, run_id=None, steps=3, seconds=1.5)
    state = TrainerState(started="then", step=3, continued=continued)
    ResumeCheckpoint(tmp_path / "key").save({"weights": torch.zeros(1)}, state)
    loaded = ResumeCheckpoint(tmp_path / "key").load({"weights": torch.zeros(1)})
    assert loaded is not None and loaded[1] == state
