"""Several ranks on this CPU, by gloo: losses, bits, resuming, and what becomes of a rank that is killed or stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.repository import ROOT
from tinystories.common import paths
from tinystories.common.artifacts import HistoryRow, Run
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.signals import Stopped
from tinystories.training import launch
from tinystories.training import step as step_module
from tinystories.training.backend import Backend
from tinystories.training.distributed import ONE_PROCESS, STORE, choose_ranks
from tinystories.training.launch import Followers
from tinystories.training.resume import ResumeCheckpoint
from tinystories.training.step import TrainStep, fit_micro_batch
from tinystories.training.trainer import train


@pytest.fixture(autouse=True)
def here(workspace: Path) -> Path:
    return workspace


def with_ranks(params: Params, devices: int | str, **changes: object) -> Params:
    usual = {"device": "cpu", "save_every": 1e-9, "log_every": 1, "compile": "off", "kept_trunks": 0}
    values = {"devices": devices, **usual, **changes}
    return params.model_copy(update={"train": params.train.model_copy(update=values)})


@pytest.fixture
def params(small_params: Params) -> Params:
    return with_ranks(small_params, 2)


def losses() -> list[float]:
    return [row.loss for row in HistoryRow.read_table()]


def weights() -> bytes:
    return (paths.CHECKPOINT / "model.safetensors").read_bytes()


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, trouble: Callable[[], None]) -> None:
    step = TrainStep.step

    def troubled(train_step: TrainStep, index: int) -> None:
        if index == number:
            trouble()
        step(train_step, index)

    monkeypatch.setattr(TrainStep, "step", troubled)


@pytest.fixture
def followers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process ids of the ranks that the stage has started."""
    started: list[int] = []
    start = Followers._start

    def note(self, *arguments):
        process = start(self, *arguments)
        started.append(process.pid)
        return process

    monkeypatch.setattr(Followers, "_start", note)
    return started


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def passed_alone(request: pytest.FixtureRequest) -> bool:
    """Run the test again in a process of its own, if it is not in one. False where it is.

    A stage ends with its ranks, or with the first that it loses. Gloo may abort a process that goes on and forms other
    groups. One such process died where none had been lost, by what was not found out.
    """
    if os.environ.get("ALONE"):
        return False
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", request.node.nodeid]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=ROOT, env={**environment, "ALONE": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return True


def test_two_ranks_train_as_one_process_and_resume_to_the_same_bits(request, params, no_run, monkeypatch):
    if passed_alone(request):
        return
    train(with_ranks(params, 1), None)
    alone = losses()
    train(params, None)
    together, bits = losses(), weights()
    assert together == pytest.approx(alone, abs=1e-5)
    for directory in Path(".state/train").glob("[!.]*/"):
        ResumeCheckpoint(directory).remove()
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at_step(patch, 3, stop)
        train(params, None)
    assert no_run.ended[-1] == "KILLED"
    train(params, None)
    assert weights() == bits, "stopped and resumed, to the same bits"
    assert no_run.ended == ["FINISHED", "FINISHED", "KILLED", "FINISHED"], "one run each: rank 0's"


def test_a_stopped_training_goes_on_with_another_number_of_ranks(request, params, no_run, monkeypatch, capsys):
    if passed_alone(request):
        return
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at_step(patch, 3, stop)
        train(params, None)
    train(with_ranks(params, 1), None)
    assert "another number of ranks (2) and goes on with 1 from step 4" in capsys.readouterr().out
    assert (Run.read().environment.model_extra or {})["ranks"] == "2 to step 4, then 1"
    assert [row.step for row in HistoryRow.read_table()] == list(range(1, params.train.steps + 1))


@pytest.mark.parametrize(
    ("number", "moment", "said"),
    [
        (signal.SIGKILL, "start", "rank 1 of 2 was killed by SIGKILL"),
        (signal.SIGKILL, "step", "rank 1 of 2 was killed by SIGKILL"),
        pytest.param(signal.SIGKILL, "save", "rank 1 of 2 was killed by SIGKILL", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "validation", "rank 1 of 2 was killed by SIGKILL", marks=pytest.mark.slow),
        (signal.SIGSTOP, "step", "rank 1 of 2 hangs: no sign of life"),
    ],
)
def test_a_rank_that_dies_or_hangs_ends_all(request, params, no_run, monkeypatch, followers, number, moment, said):
    if passed_alone(request):
        return
    monkeypatch.setattr(launch, "SILENCE_SECONDS", 3 if number == signal.SIGSTOP else 30)
    kind, name = {
        "start": (Followers, "wait_until_ready"), "step": (TrainStep, "step"),
        "save": (ResumeCheckpoint, "save"), "validation": (TrainStep, "evaluate_loss"),
    }[moment]  # fmt: skip
    method = getattr(kind, name)
    calls: list[None] = []

    def troubled(self, *arguments):
        calls.append(None)
        if len(calls) == (1 if moment in ("start", "validation") else 3):
            os.kill(followers[0], number)
        return method(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(UserError, match=said) as caught:
        patch.setattr(kind, name, troubled)
        train(params, None)
    assert len(str(caught.value).splitlines()) == 1
    assert no_run.ended in ([], ["FAILED"])
    assert not paths.CHECKPOINT.exists()
    saved = [int(path.name[5:17]) for path in Path(".state/train").glob("*/step-*")]
    assert saved or moment == "start", "the state stands as last saved"
    for pid in followers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.slow
def test_four_ranks_train_as_one_process(request, params, no_run):
    if passed_alone(request):
        return
    four = with_ranks(params, 4)
    train(with_ranks(params, 1), None)
    alone = losses()
    train(four, None)
    assert losses() == pytest.approx(alone, abs=1e-5)


def test_micro_batches_train_as_the_whole_batch(params, no_run):
    train(with_ranks(params, 1), None)
    whole = losses()
    keys = {Run.read().key}
    train(with_ranks(params, 1, micro_batch_size=1), None)
    assert losses() == pytest.approx(whole, abs=1e-5)
    assert len(keys | {Run.read().key}) == 2, "other bits, another key"


def refused(params: Params, device: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        choose_ranks(params.train, torch.device(device))
    assert len(str(caught.value).splitlines()) == 1


def test_choose_ranks_refuses_devices_that_are_not_there(params, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused(params, "cuda", "train.devices is 2, but there are 1 GPUs; it should be auto or at most 1")
    refused(params, "mps", "MPS is one device")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    refused(with_ranks(params, "auto", batch_size=4), "cuda", "train.batch_size is 4 and there are 3 ranks")


def test_choose_ranks_under_torchrun(params, monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    auto = with_ranks(params, "auto", batch_size=4)
    refused(auto, "cpu", "WORLD_SIZE is 4, but MASTER_ADDR is not set")
    monkeypatch.setenv(STORE, "file")
    assert choose_ranks(auto.train, torch.device("cpu")).count == 4
    refused(with_ranks(params, 2), "cpu", "train.devices is 2, but there are 4 ranks")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused(auto, "cuda", "rank 1 is number 1 on its machine, which has 1 GPUs")
    monkeypatch.setenv("RANK", "4")
    refused(auto, "cpu", "RANK is '4' and WORLD_SIZE is '4'")


class FakeStep:
    """In the place of a step on a GPU, whose memory holds `fits` windows."""

    fits = 1

    def __init__(self, params: Params, *_: object) -> None:
        self._micro_batch = params.train.micro_batch_size

    def step(self, index: int) -> None:
        if self._micro_batch == "auto" or self._micro_batch > self.fits:
            raise torch.OutOfMemoryError


def test_a_batch_is_halved_until_it_fits_into_a_gpu(params, monkeypatch, capsys):
    gpu = Backend(torch.device("cuda"), torch.bfloat16, compiled=False)
    monkeypatch.setattr(step_module, "TrainStep", FakeStep)
    monkeypatch.setattr(FakeStep, "fits", 1)
    fitted = fit_micro_batch(with_ranks(params, 1), 300, np.zeros(100, np.uint16), gpu, ONE_PROCESS)
    assert fitted.train.micro_batch_size == 1
    assert "4 windows does not fit into the GPU's memory: it is computed 1 windows at a time" in capsys.readouterr().out
    monkeypatch.setattr(FakeStep, "fits", 0)
    with pytest.raises(torch.OutOfMemoryError):
        fit_micro_batch(with_ranks(params, 1), 300, np.zeros(100, np.uint16), gpu, ONE_PROCESS)
