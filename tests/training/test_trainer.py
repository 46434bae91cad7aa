"""The training loop: a diverged loss, a device that fails, a resumed or repeated training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.device_errors import CPU_MEMORY, CUDA_MEMORY, DEVICE_ERRORS
from tests.support.small_training import NoRun
from tests.support.train_results import delete_results
from tinystories.cli.main import main
from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.files import checksum
from tinystories.common.params import Params
from tinystories.training import retention, start
from tinystories.training import trainer as module
from tinystories.training.resume import TENSORS, TRAINER_STATE
from tinystories.training.step import TrainStep
from tinystories.training.trainer import train


@pytest.fixture(autouse=True)
def here(workspace: Path) -> Path:
    return workspace


@pytest.fixture
def params(small_params: Params) -> Params:
    """The state is saved after each step."""
    changes = {"save_every": 1e-9, "log_every": 3}
    return small_params.model_copy(update={"train": small_params.train.model_copy(update=changes)})


def train_fails(params: Params, no_run: type[NoRun]) -> str:
    """Train, and return the one line of its error. The run ended as failed, and no result is written."""
    no_run.ended.clear()
    with pytest.raises(UserError) as caught:
        train(params, None)
    assert no_run.ended == ["FAILED"]
    assert not paths.CHECKPOINT.exists() and not paths.RUN.exists() and not paths.TRAIN_METRICS.exists()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def saved_steps() -> list[int]:
    return [int(path.name[5:17]) for path in Path(".state/train").glob("*/step-*")]


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, trouble: Callable[[TrainStep], None]) -> None:
    """Call `trouble` after the step of this number (from 0)."""
    step = TrainStep.step

    def troubled(train_step: TrainStep, index: int) -> None:
        step(train_step, index)
        if index == number:
            trouble(train_step)

    monkeypatch.setattr(TrainStep, "step", troubled)


def break_loss(train_step: TrainStep) -> None:
    train_step.loss_sum += float("nan")


def break_gradient(train_step: TrainStep) -> None:
    train_step.gradient_norm.fill_(float("inf"))


def explode_gradient(train_step: TrainStep) -> None:
    train_step.gradient_norm.fill_(2e15)


def break_weights(train_step: TrainStep) -> None:
    with torch.no_grad():
        train_step.model.embedding.fill_(float("nan"))


@pytest.mark.parametrize(
    ("step", "trouble", "words"),
    [
        (4, break_loss, "the training loss is nan at step 6; train.learning_rate (0.02) or "),
        (5, break_gradient, "the gradient's norm is inf at step 6; train.learning_rate (0.02) or "),
        (5, explode_gradient, "the gradient's norm is 2e+15 at step 6; train.learning_rate (0.02) or "),
        (9, break_weights, "the validation loss is nan at step 10; train.learning_rate (0.02) or "),
    ],
)
def test_train_refuses_to_diverge(params, no_run, monkeypatch, step, trouble, words):
    at_step(monkeypatch, step, trouble)
    assert words in train_fails(params, no_run)
    assert saved_steps() == []  # resuming would lead there again


def fail(error: Exception) -> Callable[[TrainStep], None]:
    def raise_it(train_step: TrainStep) -> None:
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError(CUDA_MEMORY), "out of memory (cannot allocate 20.00 MiB); lower train.batch_size"),
        (RuntimeError(CPU_MEMORY), "out of memory (cannot allocate 33554944 bytes); lower train.batch_size"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), "out of memory; lower train.batch_size"),
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel"), "out of memory; lower train.batch_size"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory;"),
        (MemoryError("Unable to allocate 1.5 TiB for an array"), "out of memory (cannot allocate 1.5 TiB); lower"),
        *((error, f"the device fails ({str(error)[:4]}") for error in DEVICE_ERRORS),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else "",
)
def test_train_resumes_after_a_device_error(params, no_run, monkeypatch, capsys, error, words):
    with monkeypatch.context() as patch:
        at_step(patch, 13, fail(error))
        assert words in train_fails(params, no_run)
    (saved,) = saved_steps()
    assert saved == 13
    capsys.readouterr()
    train(params, None)
    assert "Resuming from step 13" in capsys.readouterr().out
    assert no_run.ended == ["FAILED", "FINISHED"]
    assert paths.CHECKPOINT.exists() and saved_steps() == [20]


def test_train_out_of_memory_before_the_first_step(params, no_run):
    huge = {"batch_size": 10**6, "compile": "off"}
    config = params.model.model_copy(update={"context_length": 1000})
    params = params.model_copy(update={"model": config, "train": params.train.model_copy(update=huge)})
    with pytest.raises(
        UserError, match=r"^out of memory \(cannot allocate \d+ bytes\); lower train\.batch_size, model\."
    ):
        train(params, None)
    assert no_run.ended == []


def test_train_without_git(params, no_run, monkeypatch):
    directory = Path("bin")
    directory.mkdir()
    for tool in ("sh", "g++"):
        if found := shutil.which(tool):
            (directory / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(directory.resolve()))
    assert shutil.which("git") is None
    train(params, None)
    assert json.loads(paths.RUN.read_text())["environment"]["git_commit"] is None


def test_train_starts_over_after_clean_state(here, small_params, no_run, capsys):
    train(small_params, None)
    weights = (paths.CHECKPOINT / "model.safetensors").read_bytes()
    delete_results(here)
    assert main(["state", "--free"]) == 0
    assert "Freed 2 of 2" in capsys.readouterr().out
    train(small_params, None)
    assert "Epoch 2: " in capsys.readouterr().out
    assert (paths.CHECKPOINT / "model.safetensors").read_bytes() == weights


def test_train_starts_over_if_the_state_has_another_form(here, small_params, no_run, capsys):
    train(small_params, None)
    (state,) = Path(".state/train").glob("*/step-*")
    values = json.loads((state / TRAINER_STATE).read_text())["state"]
    values["epoch"] = values.pop("epochs")
    total = checksum([state.parent.name, values], state / TENSORS)
    (state / TRAINER_STATE).write_text(json.dumps({"checksum": total, "state": values}))
    capsys.readouterr()
    train(small_params, None)
    said = capsys.readouterr().out
    assert "its trainer state has another form: epoch: Extra inputs are not permitted" in said
    assert "this training starts over" in said and "Epoch 2: " in said


def test_train_prunes_finished_states(here, small_params, no_run, monkeypatch):
    monkeypatch.setattr(retention, "MAX_FINISHED", 2)
    states = []
    for seed in range(3):
        train(small_params.model_copy(update={"seed": seed}), None)
        states.append(max(Path(".state/train").glob("*/step-*"), key=lambda path: path.stat().st_mtime_ns))
    assert [state.exists() for state in states] == [False, True, True]


def test_train_ends_after_its_start_though_the_clock_is_set_back(here, small_params, no_run, monkeypatch):
    times = iter(["2026-01-02T00:00:00+00:00", "2026-01-01T00:00:00+00:00"])
    for where in (start, module):
        monkeypatch.setattr(where, "now", lambda: next(times))
    train(small_params, None)
    run = json.loads(paths.RUN.read_text())
    assert run["started"] == "2026-01-02T00:00:00+00:00" <= run["ended"] < "2026-01-03"


@pytest.mark.parametrize("compiles", ["on", "off"])
def test_train_says_that_it_compiles(params, no_run, monkeypatch, capsys, compiles):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    params = params.model_copy(update={"train": params.train.model_copy(update={"compile": compiles})})
    train(params, None)
    assert ("Compiling the training step: about" in capsys.readouterr().out) == (compiles == "on")
