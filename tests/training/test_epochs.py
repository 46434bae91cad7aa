"""The weights that are kept of earlier epochs, with a kill at every line; the samples that are shown meanwhile."""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.line_kills import kill
from tests.support.small_training import NoRun
from tests.support.train_results import delete_results, read_results
from tinystories.common import paths
from tinystories.common.artifacts import EpochIndex
from tinystories.common.params import ModelConfig, Params
from tinystories.common.signals import Stopped
from tinystories.evaluation.evaluate import evaluate
from tinystories.inference.loss_eval import EvalResult
from tinystories.model.checkpoint import copy_checkpoint, load_checkpoint, save_checkpoint
from tinystories.training import trainer
from tinystories.training.results import write_results
from tinystories.training.step import TrainStep
from tinystories.training.trainer import Trainer, train


@pytest.fixture(autouse=True)
def here(workspace: Path) -> Path:
    return workspace


@pytest.fixture
def params(small_params: Params) -> Params:
    return changed(small_params, epochs=8, steps_per_epoch=2, log_every=2)


def changed(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update=changes)})


def results(here: Path) -> dict[str, bytes]:
    """Those that repeat to the byte."""
    return {name: data for name, data in read_results(here).items() if name.startswith("models/e") or "safe" in name}


def test_train_keeps_the_weights_of_the_epochs_that_are_shown(here, params, no_run, monkeypatch):
    seen: dict[int, Tensor] = {}
    step = TrainStep.step

    def note(train_step: TrainStep, number: int) -> None:
        step(train_step, number)
        seen[number + 1] = train_step.model.qkv_proj.detach().clone()

    monkeypatch.setattr(TrainStep, "step", note)
    train(params, None)
    assert EpochIndex.read().epochs == [1, 2, 4, 5, 7, 8]
    assert sorted(path.name for path in paths.EPOCH_CHECKPOINTS.glob("epoch_*")) == [
        f"epoch_{number}" for number in (1, 2, 4, 5, 7)
    ]
    for number in (1, 2, 4, 5, 7):
        assert torch.equal(load_checkpoint(paths.epoch_checkpoint(number)).qkv_proj, seen[2 * number])
    assert torch.equal(load_checkpoint(paths.CHECKPOINT).qkv_proj, seen[16])


def test_train_for_one_epoch_keeps_the_checkpoint_alone(params, no_run):
    train(changed(params, epochs=1), None)
    assert [path.name for path in paths.EPOCH_CHECKPOINTS.iterdir()] == [paths.EPOCH_INDEX.name]
    assert EpochIndex.read().epochs == [1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", [Trainer._end_epoch, save_checkpoint, copy_checkpoint, write_results], ids=lambda place: place.__name__
)
def test_train_killed_at_any_line_ends_with_the_same_bytes(here, small_params, no_run, capsys, place):
    """The places run at the end of an epoch, and as the results are written."""
    params = changed(small_params, epochs=2, steps_per_epoch=1, log_every=1, batch_size=64)  # validates in few batches
    params = params.model_copy(update={"sample": params.sample.model_copy(update={"max_new_tokens": 1})})
    train(params, None)
    expected = results(here)
    assert "models/epochs/epoch_1/model.safetensors" in expected
    line = kills = 0
    while True:
        delete_results(here)
        shutil.rmtree(".state")
        line += 1
        if not kill(place, line, lambda: train(params, None)):
            break
        kills += 1
        delete_results(here)
        capsys.readouterr()
        train(params, None)
        assert results(here) == expected, line
        assert "damaged" not in capsys.readouterr().out, line
    assert kills > 10


@pytest.fixture
def shown(no_run: type[NoRun], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The texts that MLflow gets."""
    texts: dict[str, str] = {}
    monkeypatch.setattr(no_run, "log_text", lambda run, path, content: texts.update({path: content}))
    return texts


@pytest.mark.parametrize(
    ("precision", "compile"), [("fp32", "off"), ("bf16", "off"), pytest.param("bf16", "on", marks=pytest.mark.slow)]
)
def test_train_shows_the_samples_that_evaluate_writes(here, params, shown, kernels, precision, compile):
    kernels.clear()
    config = ModelConfig(context_length=12, embedding_size=32, layers=1, heads=2)
    params = changed(params, precision=precision, compile=compile).model_copy(update={"model": config})
    train(params, None)
    assert shown.keys() - {"epochs.csv"} == {f"samples/epoch_{number}.md" for number in range(1, 9)}
    evaluate(params)
    for number in EpochIndex.read().epochs:
        assert shown[f"samples/epoch_{number}.md"] == paths.epoch_samples(number).read_bytes().decode()


def test_train_stopped_while_it_shows_samples_validates_no_epoch_again(params, no_run, monkeypatch):
    def stop(*_: object) -> None:
        raise Stopped(signal.SIGTERM, immediate=False)

    evaluate_loss, validated = TrainStep.evaluate_loss, 0

    def count(*given: Any) -> EvalResult:
        nonlocal validated
        validated += 1
        return evaluate_loss(*given)

    monkeypatch.setattr(TrainStep, "evaluate_loss", count)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "render_samples", stop)
        for _ in range(8):
            with pytest.raises(Stopped):
                train(params, None)
    train(params, None)
    assert validated == 8
    assert EpochIndex.read().epochs == [1, 2, 4, 5, 7, 8]


def test_train_gives_the_same_bits_with_other_samples(here, params, shown):
    train(params, None)
    before, samples = results(here), dict(shown)
    delete_results(here)
    shutil.rmtree(".state")
    other = params.sample.model_copy(update={"prompts": ("The end",), "temperature": 2.0, "max_new_tokens": 3})
    train(params.model_copy(update={"sample": other}), None)
    assert results(here) == before
    assert all(shown[page] != samples[page] for page in shown if page.startswith("samples/"))
