"""The trunk: a longer training, or one with another cooldown, goes on from a kept state and ends with the same bits."""

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.saved_states import ROW, save_one
from tests.support.train_results import delete_results
from tinystories.cli.main import main
from tinystories.common import paths
from tinystories.common.artifacts import Continued, EpochIndex, EpochRow, HistoryRow, Run, TrainMetrics
from tinystories.common.epochs import epochs_with_samples
from tinystories.common.errors import UserError
from tinystories.common.params import Params, Train
from tinystories.common.signals import Stopped
from tinystories.training import trunk as module
from tinystories.training.resume import ResumeCheckpoint, TrainerState
from tinystories.training.retention import prune_trunks, saved_trainings
from tinystories.training.schedule import trunk_end
from tinystories.training.step import TrainStep
from tinystories.training.trainer import train
from tinystories.training.trunk import Trunks, fits

Results = tuple[dict[str, bytes], list[dict[str, Any]], list[dict[str, Any]], list[int]]


@pytest.fixture
def params(workspace: Path, small_params: Params, no_run: object) -> Params:
    """Of three steps an epoch; the cooldown is the second half."""
    sample = small_params.sample.model_copy(update={"prompts": (), "max_new_tokens": 1})
    params = small_params.model_copy(update={"sample": sample})
    return changed(params, batch_size=64, steps_per_epoch=3, log_every=2, warmup_steps=2)


def changed(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update=changes)})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are trained, from 0."""
    steps: list[int] = []
    step = TrainStep.step
    monkeypatch.setattr(TrainStep, "step", lambda self, number: [steps.append(number), step(self, number)] and None)
    return steps


def results() -> Results:
    """All that a training writes, without what time decides."""
    weights = {str(path): path.read_bytes() for path in Path("models").rglob("*.safetensors")}
    history = [row.model_dump(exclude={"seconds", "tokens_per_second"}) for row in HistoryRow.read_table()]
    epochs = [row.model_dump(exclude={"seconds"}) for row in EpochRow.read_table()]
    return weights, history, epochs, EpochIndex.read().epochs


def run(params: Params) -> Results:
    delete_results(Path())
    shutil.rmtree("models", ignore_errors=True)
    train(params, None)
    return results()


def from_scratch(params: Params) -> Results:
    shutil.move(".state", "kept")
    found = run(params)
    shutil.rmtree(".state")
    shutil.move("kept", ".state")
    return found


def trunks() -> list[Path]:
    return sorted(path for path in paths.trunk_states().glob("*-*") if path.is_dir())


def test_train_longer_continues(params, trained, capsys):
    """2, 4 and 8 epochs: each trains what is missing alone, and has the bits of a training from its first step."""
    run(params)
    two = Run.read()
    assert trained == list(range(6)) and len(trunks()) == 1
    for epochs, trunk, reused in ((4, 7, 4), (8, 13, 7)):
        longer = changed(params, epochs=epochs)
        trained.clear()
        capsys.readouterr()
        found = run(longer)
        assert trained == list(range(reused, 3 * epochs))
        assert f"Going on from step {reused} of a training with the same start" in capsys.readouterr().out
        metrics, continued = TrainMetrics.read(), Run.read().continued
        assert metrics.reused_steps == reused and 0 < metrics.reused_seconds < metrics.seconds
        assert continued and continued.steps == reused
        assert (continued.key == two.key) == (epochs == 4)
        assert Run.read().started <= Run.read().ended
        assert [row.seconds for row in EpochRow.read_table()] == sorted(row.seconds for row in EpochRow.read_table())
        assert f"-{trunk:012}-" in str(trunks())
        assert found == from_scratch(longer)
        assert TrainMetrics.read().reused_steps == 0 and Run.read().continued is None
    assert EpochIndex.read().epochs == epochs_with_samples(8) and len(trunks()) == 3


@pytest.mark.parametrize(
    ("before", "after", "reused"),
    [
        ({}, {"cooldown": 0.2}, 4),
        ({"cooldown": 0.2}, {"cooldown": 0.5}, 0),
        ({"epochs": 1, "steps_per_epoch": 8}, {"epochs": 1, "steps_per_epoch": 10}, 5),
        ({}, {"steps_per_epoch": 4}, 0),
        ({}, {"epochs": 1, "steps_per_epoch": 9}, 0),
        ({}, {"epochs": 4, "log_every": 3}, 0),
        ({"log_every": 100}, {"epochs": 4, "log_every": 7}, 4),
        ({"cooldown": 0.0}, {"epochs": 4}, 6),  # the trunk ends with an epoch, whose validation is reused
        ({"epochs": 1, "steps_per_epoch": 12, "cooldown": 0.5}, {"epochs": 2, "steps_per_epoch": 7, "log_every": 2}, 7),
        ({"cooldown": 0.0, "epochs": 4}, {"epochs": 4, "cooldown": 0.0, "weight_decay": 0.5}, 0),
        ({}, {"epochs": 4, "warmup_steps": 3}, 0),
    ],
)
def test_train_continues_what_fits(params, trained, capsys, before, after, reused):
    run(changed(params, **before))
    trained.clear()
    capsys.readouterr()
    found = run(changed(params, **after))
    assert trained[0] == reused
    said = capsys.readouterr().out
    is_related = not {"weight_decay", "warmup_steps"} & after.keys()
    assert ("kept state of a training that began as this one" in said) == (not reused and is_related)
    assert found == from_scratch(changed(params, **after))


def test_train_of_the_trunks_length_trains_nothing(params, trained):
    run(changed(params, epochs=4, cooldown=0.5, steps_per_epoch=2, log_every=1))
    trained.clear()
    exact = changed(params, epochs=5, cooldown=0.0, steps_per_epoch=1, log_every=1)
    assert run(exact) == from_scratch(exact)


def test_train_validates_the_trunk_once(params, monkeypatch):
    validated: list[int] = []
    evaluate = TrainStep.evaluate_loss
    monkeypatch.setattr(TrainStep, "evaluate_loss", lambda *given: [validated.append(0), evaluate(*given)][1])
    run(changed(params, cooldown=0.0))
    assert len(validated) == 2
    run(changed(params, epochs=4))
    assert len(validated) == 4


def test_train_stopped_after_continuing_resumes(params, trained, monkeypatch, capsys):
    run(params)
    longer = changed(params, epochs=4)
    step = TrainStep.step

    def stop(self: TrainStep, number: int) -> None:
        step(self, number)
        if number == 8:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", stop)
        with pytest.raises(Stopped):
            run(longer)
    main(["state", "--free"])  # the trunk is not needed any more
    assert trunks() == []
    trained.clear()
    capsys.readouterr()
    found = run(longer)
    assert trained == [9, 10, 11] and "Resuming from step 9" in capsys.readouterr().out
    assert TrainMetrics.read().reused_steps == 4
    assert found == from_scratch(longer)


def test_train_does_not_use_a_damaged_trunk(params, trained, capsys):
    run(params)
    (tensors,) = trunks()[0].glob("step-*/tensors.safetensors")
    data = bytearray(tensors.read_bytes())
    data[-9] ^= 1
    tensors.write_bytes(data)
    longer = changed(params, epochs=4)
    trained.clear()
    capsys.readouterr()
    found = run(longer)
    assert trained[0] == 0
    assert "this saved state is damaged and is skipped (its checksum is wrong)" in capsys.readouterr().out
    assert found == from_scratch(longer)
    assert len(trunks()) == 1, "the damaged one is gone"
    shutil.rmtree(paths.training_states())
    run(params)
    trained.clear()
    run(longer)
    assert trained[0] == 4, "and is replaced"


def test_train_does_not_use_a_trunk_with_damaged_epoch_weights(params, trained, capsys):
    run(params)
    (weights,) = trunks()[0].glob("epochs/*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"damn")
    trained.clear()
    run(changed(params, epochs=4))
    assert trained[0] == 0 and "is damaged and is skipped" in capsys.readouterr().out


def test_train_does_not_use_a_trunk_of_other_conditions(params, trained, monkeypatch, capsys):
    run(params)
    found = module.Trunks._kept
    here = torch.__version__
    monkeypatch.setattr(torch, "__version__", "2.0.0")
    trained.clear()
    run(changed(params, epochs=4))
    assert trained[0] == 0 and len(trunks()) == 2
    said = capsys.readouterr().out
    assert f"The kept state of a training that began as this one is of torch {here} (here 2.0.0)" in said, found


def test_train_does_not_use_a_trunk_that_it_may_not_read(params, trained, monkeypatch, capsys):
    run(params)
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    trained.clear()
    run(changed(params, epochs=4))
    assert trained[0] == 0
    assert "this kept state is not readable and is skipped" in capsys.readouterr().out


def test_train_goes_on_without_a_trunk_that_is_removed_meanwhile(params, trained, monkeypatch, capsys):
    run(params)
    kept = Trunks._kept

    def removing(self: Trunks) -> list[Any]:
        found = list(kept(self))
        main(["state", "--free"])
        return found

    monkeypatch.setattr(Trunks, "_kept", removing)
    trained.clear()
    run(changed(params, epochs=4))
    assert trained[0] == 0 and "this kept state was removed meanwhile" in capsys.readouterr().out


class Killed(BaseException):
    pass


def test_train_killed_at_any_line_of_keeping(params, trained):
    """What it leaves is never used, and the next training of the same key completes it."""
    expected, longer = from_scratch_of(params), from_scratch_of(changed(params, epochs=4))
    line = 0
    while True:
        shutil.rmtree(".state", ignore_errors=True)
        line += 1
        if not kill(Trunks._keep, line, lambda: run(params)):
            break
        assert run(params) == expected
        assert len(trunks()) == 1
        trained.clear()
        assert run(changed(params, epochs=4)) == longer
        assert trained[0] == 4
    assert line > 8


def from_scratch_of(params: Params) -> Results:
    shutil.rmtree(".state", ignore_errors=True)
    return run(params)


def kill(place: Callable[..., Any], line: int, work: Callable[[], object]) -> bool:
    """Work until that line in `place`. False where the work ends before."""
    count = 0

    def look(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        nonlocal count
        count += event == "line"
        if count == line:
            count += 1
            raise Killed
        return look

    sys.settrace(lambda frame, *rest: look(frame, *rest) if frame.f_code is place.__code__ else None)
    try:
        work()
    except Killed:
        return True
    finally:
        sys.settrace(None)
    return False


def test_train_without_room_for_the_trunk_warns(params, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "trunk")

    expected = from_scratch_of(params)
    shutil.rmtree(".state")
    monkeypatch.setattr(module, "copy_checkpoint", full)
    assert run(params) == expected
    assert "warning: the state at the start of the cooldown is not kept" in capsys.readouterr().out
    assert trunks() == []


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
    assert trunks() == []


def test_kept_trunks_bounds_their_number(params, capsys):
    for seed in range(3):
        run(changed(params, kept_trunks=2).model_copy(update={"seed": seed}))
    assert len(trunks()) == 2
    run(params.model_copy(update={"seed": 1}))  # ended before: nothing is trained, nothing kept
    assert len(trunks()) == 2
    main(["state"])
    assert [line.split()[1:4] for line in capsys.readouterr().out.splitlines()[-2:]] == [["4", "steps", "trunk"]] * 2
    run(changed(params, kept_trunks=0).model_copy(update={"seed": 3}))
    assert trunks() == []


def test_kept_trunk_gigabytes_bounds_their_size(params, capsys):
    run(changed(params, kept_trunk_gigabytes=1e-5))
    assert trunks() == []
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


def test_train_logs_what_it_reuses(params, no_run, monkeypatch):
    """A run of its own has the whole history, and tags that name the other."""
    points: list[int] = []
    tags: dict[str, str] = {}
    initialize = no_run.__init__
    monkeypatch.setattr(no_run, "__init__", lambda run, **known: [tags.update(known["tags"]), None][1])
    monkeypatch.setattr(no_run, "log_metrics", lambda run, step, metrics: points.append(step))
    run(params)
    assert not [name for name in tags if "continued" in name], initialize
    key = Run.read().key
    points.clear()
    run(changed(params, epochs=4))
    assert points == [2, 3, 3, *[4, 6, 6, 8, 9, 9, 10, 12, 12]]
    assert (tags["pipeline.continued_from"], tags["pipeline.reused_steps"]) == (key, "4")


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
            figures = dict.fromkeys(EpochRow.model_fields, 0.0)
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
