"""A training whose loss explodes, whose memory is out, whose device goes away: one line, and nothing is lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.small_training import NoRun
from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.reading import read_json
from tinystories.evaluation import evaluate as evaluation
from tinystories.evaluation.evaluate import evaluate
from tinystories.inference.loss_eval import evaluate_loss
from tinystories.model.device import translate_device_errors
from tinystories.training.backend import choose_backend
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


def problem(params: Params, no_run: type[NoRun]) -> str:
    """The message of a training that fails: one line, the run ended as failed, no result written."""
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
    """Have the trouble after the step of this number (from 0)."""
    step = TrainStep.step

    def troubled(engine: TrainStep, index: int) -> None:
        step(engine, index)
        if index == number:
            trouble(engine)

    monkeypatch.setattr(TrainStep, "step", troubled)


def break_loss(engine: TrainStep) -> None:
    engine.loss_sum += float("nan")


def break_gradient(engine: TrainStep) -> None:
    engine.gradient_norm.fill_(float("inf"))


def break_weights(engine: TrainStep) -> None:
    with torch.no_grad():
        engine.model.embedding.fill_(float("nan"))


@pytest.mark.parametrize(
    ("step", "trouble", "words"),
    [
        (4, break_loss, "the training loss is nan at step 6; train.learning_rate (0.02) or "),
        (5, break_gradient, "the gradient's norm is inf at step 6; train.learning_rate (0.02) or "),
        (9, break_weights, "the validation loss is nan at step 10; train.learning_rate (0.02) or "),
    ],
)
def test_a_loss_that_is_no_number(params, no_run, monkeypatch, step, trouble, words):
    at_step(monkeypatch, step, trouble)
    assert words in problem(params, no_run)
    assert saved_steps() == []  # what leads there again is no state to go on from


def fail(error: Exception) -> Callable[[TrainStep], None]:
    def raise_it(engine: TrainStep) -> None:
        raise error

    return raise_it


CPU_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 33554944 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA_MEMORY = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB of which"
GONE = [
    torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("CUDA driver error: device is lost"),
]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError(CUDA_MEMORY), "out of memory (cannot allocate 20.00 MiB); lower train.batch_size"),
        (RuntimeError(CPU_MEMORY), "out of memory (cannot allocate 33554944 bytes); lower train.batch_size"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), "out of memory; lower train.batch_size"),
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel"), "out of memory; lower train.batch_size"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory;"),
        (MemoryError("Unable to allocate 1.5 TiB for an array"), "out of memory (cannot allocate 1.5 TiB); lower"),
        *((error, "the device fails (CU" if "CUDA" in str(error)[:4] else "the device fails (cu") for error in GONE),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else "",
)
def test_a_device_that_fails_costs_no_step_that_was_saved(params, no_run, monkeypatch, capsys, error, words):
    with monkeypatch.context() as patch:
        at_step(patch, 13, fail(error))
        assert words in problem(params, no_run)
    (saved,) = saved_steps()
    assert saved == 13
    capsys.readouterr()
    train(params, None)
    assert "Going on from step 13" in capsys.readouterr().out
    assert no_run.ended == ["FAILED", "FINISHED"]
    assert paths.CHECKPOINT.exists() and saved_steps() == [20]


def test_memory_that_is_not_there_is_said_before_the_training(params, no_run):
    huge = {"batch_size": 10**6, "compile": "off"}
    config = params.model.model_copy(update={"context_length": 1000})
    params = params.model_copy(update={"model": config, "train": params.train.model_copy(update=huge)})
    with pytest.raises(
        UserError, match=r"^out of memory \(cannot allocate \d+ bytes\); lower train\.batch_size, model\."
    ):
        train(params, None)
    assert no_run.ended == []


def test_mistakes_of_the_program_are_not_taken_for_the_devices():
    for text in ("shapes do not fit", "Expected all tensors to be on the same device, found cuda:0 and cpu"):
        with pytest.raises(RuntimeError, match=text), translate_device_errors("nothing"):
            raise RuntimeError(text)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError(CUDA_MEMORY), "out of memory (cannot allocate 20.00 MiB); lower evaluate.batch_size"),
        (GONE[0], "the device fails (CUDA error: unspecified launch failure)"),
        (None, "models/checkpoint: its validation loss is nan; run the stage train again"),
    ],
    ids=["memory", "device", "nan"],
)
def test_evaluation_says_it_too(params, no_run, monkeypatch, error, words):
    train(params, None)

    def troubled(*arguments, **more):
        if error:
            raise error
        found = evaluate_loss(*arguments, **more)
        return type(found)(float("nan"), found.tokens, found.text_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate_loss", troubled)
        with pytest.raises(UserError) as caught:
            evaluate(params)
    assert words in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not paths.EVALUATION.exists()
    evaluate(params)
    assert paths.EVALUATION.exists()


def test_what_pytorch_compiles_is_kept_where_nobody_else_writes(params, here, monkeypatch):
    """It loads that again by pickle, and its own choice is a directory in /tmp, which others may have made before."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    from tinystories.training import backend

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    used = []
    monkeypatch.setattr(backend, "probe_compile", lambda device: used.append(cache_dir()))
    compiled = params.model_copy(update={"train": params.train.model_copy(update={"compile": "on"})})
    assert choose_backend(compiled, 300).compiled
    assert used == [str(here / ".state" / "compiled")]
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    choose_backend(compiled, 300)
    assert used[1:] == ["/elsewhere"]


def test_no_git_is_no_trouble(params, no_run, monkeypatch):
    directory = Path("bin")
    directory.mkdir()
    for tool in ("sh", "g++"):
        if found := shutil.which(tool):
            (directory / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(directory.resolve()))
    assert shutil.which("git") is None
    train(params, None)
    assert read_json(paths.RUN)["environment"]["git_commit"] is None
