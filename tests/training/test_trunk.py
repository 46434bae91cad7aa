"""The trunk: a longer training, or one with another cooldown, goes on from a kept state and ends with the same bits."""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.trunks import changed, found, from_scratch, run, trunk_params
from tinystories.cli.main import main
from tinystories.common import paths
from tinystories.common.artifacts import EpochIndex, EpochRow, Run, TrainMetrics
from tinystories.common.epochs import epochs_with_samples
from tinystories.common.params import Params
from tinystories.common.signals import Stopped
from tinystories.inference.loss_eval import EvalResult
from tinystories.training.step import TrainStep
from tinystories.training.trunk import Trunks


@pytest.fixture
def params(workspace: Path, small_params: Params, no_run: object) -> Params:
    return trunk_params(small_params)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are trained, from 0."""
    steps: list[int] = []
    step = TrainStep.step

    def note(self: TrainStep, number: int) -> None:
        steps.append(number)
        step(self, number)

    monkeypatch.setattr(TrainStep, "step", note)
    return steps


def test_train_longer_continues(params, trained, capsys):
    """2, 4 and 8 epochs: each trains what is missing alone, and has the bits of a training from its first step."""
    run(params)
    two = Run.read()
    assert trained == list(range(6)) and len(found()) == 1
    for epochs, trunk, reused in ((4, 7, 4), (8, 13, 7)):
        longer = changed(params, epochs=epochs)
        trained.clear()
        capsys.readouterr()
        results = run(longer)
        assert trained == list(range(reused, 3 * epochs))
        assert f"Going on from step {reused} of a training with the same start" in capsys.readouterr().out
        metrics, continued = TrainMetrics.read(), Run.read().continued
        assert metrics.reused_steps == reused and 0 < metrics.reused_seconds < metrics.seconds
        assert continued and continued.steps == reused
        assert (continued.key == two.key) == (epochs == 4)
        assert Run.read().started <= Run.read().ended
        assert [row.seconds for row in EpochRow.read_table()] == sorted(row.seconds for row in EpochRow.read_table())
        assert f"-{trunk:012}-" in str(found())
        assert results == from_scratch(longer)
        assert TrainMetrics.read().reused_steps == 0 and Run.read().continued is None
    assert EpochIndex.read().epochs == epochs_with_samples(8) and len(found()) == 3


@pytest.mark.parametrize(
    ("before", "after", "reused"),
    [
        ({}, {"cooldown": 0.2}, 4),
        ({"cooldown": 0.2}, {"cooldown": 0.5}, 0),
        ({"epochs": 1, "steps_per_epoch": 8}, {"epochs": 1, "steps_per_epoch": 10}, 5),
        ({}, {"epochs": 4, "log_every": 3}, 0),
        ({"log_every": 100}, {"epochs": 4, "log_every": 7}, 4),
        ({"cooldown": 0.0}, {"epochs": 4}, 6),  # the trunk ends with an epoch, whose validation is reused
        # one that had no epoch's end there: it is validated now
        ({"epochs": 1, "steps_per_epoch": 12, "log_every": 7}, {"steps_per_epoch": 7, "log_every": 7}, 7),
    ],
)
def test_train_continues_what_fits(params, trained, capsys, before, after, reused):
    run(changed(params, **before))
    trained.clear()
    capsys.readouterr()
    results = run(changed(params, **after))
    assert trained[0] == reused
    said = capsys.readouterr().out
    assert ("kept state of a training that began as this one" in said) == (not reused)
    if reused:
        assert results == from_scratch(changed(params, **after))


def test_train_validates_the_trunk_once(params, monkeypatch):
    validated: list[int] = []
    evaluate = TrainStep.evaluate_loss

    def count(*given: Any) -> EvalResult:
        validated.append(0)
        return evaluate(*given)

    monkeypatch.setattr(TrainStep, "evaluate_loss", count)
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
    assert found() == []
    trained.clear()
    capsys.readouterr()
    results = run(longer)
    assert trained == [9, 10, 11] and "Resuming from step 9" in capsys.readouterr().out
    assert TrainMetrics.read().reused_steps == 4
    assert results == from_scratch(longer)


def test_train_does_not_use_a_damaged_trunk(params, trained, capsys):
    run(params)
    (tensors,) = found()[0].glob("step-*/tensors.safetensors")
    data = bytearray(tensors.read_bytes())
    data[-9] ^= 1
    tensors.write_bytes(data)
    longer = changed(params, epochs=4)
    trained.clear()
    capsys.readouterr()
    results = run(longer)
    assert trained[0] == 0
    assert "this saved state is damaged and is skipped (its checksum is wrong)" in capsys.readouterr().out
    assert results == from_scratch(longer)
    assert len(found()) == 1, "the damaged one is gone"
    shutil.rmtree(paths.training_states())
    run(params)
    trained.clear()
    run(changed(params, cooldown=0.2))
    assert trained[0] == 4, "and is replaced"


def test_train_does_not_use_a_trunk_with_damaged_epoch_weights(params, trained, capsys):
    run(params)
    (weights,) = found()[0].glob("epochs/*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"damn")
    trained.clear()
    run(changed(params, epochs=4))
    assert trained[0] == 0 and "is damaged and is skipped" in capsys.readouterr().out


def test_train_does_not_use_a_trunk_of_other_conditions(params, trained, monkeypatch, capsys):
    run(params)
    here = torch.__version__
    monkeypatch.setattr(torch, "__version__", "2.0.0")
    trained.clear()
    run(changed(params, epochs=4))
    assert trained[0] == 0 and len(found()) == 2
    said = capsys.readouterr().out
    assert f"The kept state of a training that began as this one is of torch {here} (here 2.0.0)" in said


def test_train_does_not_use_a_trunk_that_it_may_not_read(params, trained, monkeypatch, capsys):
    run(params)
    monkeypatch.setattr("os.access", lambda *_: False)
    trained.clear()
    run(changed(params, epochs=4))
    assert trained[0] == 0
    assert "this kept state is not readable and is skipped" in capsys.readouterr().out


def test_train_goes_on_without_a_trunk_that_is_removed_meanwhile(params, trained, monkeypatch, capsys):
    run(params)
    kept = Trunks._kept

    def removing(self: Trunks) -> list[Any]:
        states = list(kept(self))
        main(["state", "--free"])
        return states

    monkeypatch.setattr(Trunks, "_kept", removing)
    trained.clear()
    run(changed(params, epochs=4))
    assert trained[0] == 0 and "this kept state was removed meanwhile" in capsys.readouterr().out


def test_train_logs_what_it_reuses(params, no_run, monkeypatch):
    """A run of its own has the whole history, and tags that name the other."""
    points: list[int] = []
    tags: dict[str, str] = {}
    monkeypatch.setattr(no_run, "__init__", lambda run, **known: [tags.update(known["tags"]), None][1])
    monkeypatch.setattr(no_run, "log_metrics", lambda run, step, metrics: points.append(step))
    run(params)
    assert not [name for name in tags if "continued" in name]
    key = Run.read().key
    points.clear()
    run(changed(params, epochs=4))
    assert points == [2, 3, 4, 3, 6, 6, 8, 9, 9, 10, 12, 12]
    assert (tags["pipeline.continued_from"], tags["pipeline.reused_steps"]) == (key, "4")
