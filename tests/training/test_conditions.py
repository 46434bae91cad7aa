"""One key, one result: a matrix of threads, kernels, compiling and stops; needs a compiler for C++."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tests.support.repository import ROOT
from tests.support.small_training import lay_out_tokens
from tinystories.model.device import processor
from tinystories.training import conditions as module
from tinystories.training.backend import Backend
from tinystories.training.conditions import conditions_to_resume, find_conditions
from tinystories.training.resume import RECORD, Progress, ResumeCheckpoint
from tinystories.training.run_key import training_key

FP32 = Backend(torch.device("cpu"), torch.float32, compiled=False)
HERE: dict[str, Any] = {"device": "cpu", "processor": "A", "threads": 2}

# Large enough that PyTorch shares sums out among threads, and with gradients that are clipped. Its arguments are moves:
# a step to stop at (0: none), or "forget" what is saved; after a training's end its key and a hash
# of its bits are printed.
TRAINING = """
import hashlib, json, os, shutil, signal, sys
from pathlib import Path
from tests.support.small_training import NoRun
from tinystories.training import trainer as training
from tinystories.common.params_file import load_params
from tinystories.common.signals import Stopped

compiled, moves = sys.argv[1], sys.argv[2:]
NoRun.ended = []
training.AsyncRunLogger = NoRun
params = load_params(Path(os.environ["PARAMS"]))
model = {"context_length": 32, "embedding_size": 128, "layers": 1, "heads": 8}
train = {"batch_size": 16, "epochs": 1, "steps_per_epoch": 4, "precision": "bf16", "device": "cpu", "compile": compiled,
         "gradient_clip": 0.1}
params = params.model_copy(update={
    "model": params.model.model_copy(update=model), "train": params.train.model_copy(update=train),
    "sample": params.sample.model_copy(update={"max_new_tokens": 3, "prompts": ()}),
})
step, stop_at = training.Engine.step, 0
def step_and_stop(engine, number):
    step(engine, number)
    if number + 1 == stop_at:
        os.kill(os.getpid(), signal.SIGTERM)
training.Engine.step = step_and_stop
for move in moves:
    if move == "forget":
        shutil.rmtree(".state/train", ignore_errors=True)
        continue
    for room in ("models", "reports"):
        shutil.rmtree(room, ignore_errors=True)
    stop_at = int(move)
    try:
        training.train(params, None)
    except Stopped:
        continue
    digest = hashlib.sha256()
    for name in ("models/checkpoint/model.safetensors", "models/samples/epoch_1.md"):
        digest.update(Path(name).read_bytes())
    print("result", json.loads(Path("models/run.json").read_text())["key"], digest.hexdigest())
"""


class Case(NamedTuple):
    """What is said to a process; `threads` None: nothing, so that it takes the cores it may use."""

    compiled: str
    kernels: bool
    threads: int | None


class Trainings:
    """Trainings of a few steps, in one directory."""

    def __init__(self, path: Path, no_exec: Path) -> None:
        self._path, self._no_exec = path, no_exec

    def run(self, case: Case, *moves: str, cores: str | None = None) -> tuple[str, list[str]]:
        """What a process says that makes these moves, and its results. `cores`: the only ones it may use."""
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        environment |= {"PARAMS": str(ROOT / "params.yaml"), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
        environment |= {"OMP_NUM_THREADS": str(case.threads)} if case.threads else {}
        environment |= {} if case.kernels else {"TMPDIR": str(self._no_exec)}
        prefix = ["taskset", "-c", cores] if cores else []
        command = [*prefix, sys.executable, "-c", TRAINING, case.compiled, *moves]
        done = subprocess.run(command, cwd=self._path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = done.stdout.splitlines()
        return done.stdout, [line for line in lines if line.startswith("result ")]


@pytest.fixture(scope="module")
def trainings(stories, tokenizer, tmp_path_factory) -> Iterator[Trainings]:
    path = tmp_path_factory.mktemp("conditions")
    no_exec = path / "noexec"  # a space in TMPDIR is more than torch.compile can bear
    no_exec.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,size=2g", "tmpfs", str(no_exec)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("kernels that may not be loaded can only be had with the right to mount a directory")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(path)
            lay_out_tokens(stories, tokenizer)
        yield Trainings(path, no_exec)
    finally:
        subprocess.run(["umount", "--lazy", str(no_exec)], check=True)


CASES = [
    *(Case("on", kernels, threads) for kernels in (True, False) for threads in (1, 2)),
    *(Case("off", True, threads) for threads in (1, 2)),
]


def test_trainings_of_one_key_have_the_same_bits_stopped_or_not(trainings):
    """The README's sentence. A result may differ between two keys; it must not within one."""
    found: dict[str, str] = {}
    for case in CASES:
        said, results = trainings.run(case, "forget", "0", "forget", "2", "0")
        assert "Going on from step 2" in said
        through, stopped = results
        assert stopped == through, case
        _, key, bits = through.split()
        assert found.setdefault(key, bits) == bits, case
    assert len(set(found.values())) > 2, "conditions that decide no bit would test nothing"


def test_a_stopped_training_goes_on_with_as_many_threads_as_it_had(trainings):
    _, [through] = trainings.run(Case("off", True, 2), "forget", "0", "forget", "2")
    said, [result] = trainings.run(Case("off", True, None), "0", cores="0")
    assert "begun with 2 threads" in said
    assert "Going on from step 2" in said
    assert result == through


def test_other_conditions_begin_anew_and_say_so(trainings):
    _, [through] = trainings.run(Case("off", True, 1), "forget", "0")
    trainings.run(Case("off", True, 2), "forget", "2")
    said, [result] = trainings.run(Case("off", True, 1), "0")
    assert "a saved state of this training is of threads 2 (here 1); that gives other bits" in said
    assert "Going on" not in said
    assert result == through


# The rule alone.


@pytest.fixture
def states(tmp_path: Path) -> Path:
    return tmp_path / "train"


def save(states: Path, key: str, training: str, conditions: dict[str, Any]) -> None:
    progress = Progress(started="2026-01-01T00:00:00+00:00", training=training, conditions=conditions)
    ResumeCheckpoint(states / key).save({"weights": torch.ones(1)}, progress)


@pytest.fixture
def no_threads_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("no_threads_asked_for")
def test_nothing_saved_or_of_another_training_changes_nothing(states, capsys):
    assert conditions_to_resume(states, "t", HERE) == HERE
    save(states, "k", "other", HERE | {"threads": 8})
    assert conditions_to_resume(states, "t", HERE) == HERE
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("no_threads_asked_for")
def test_a_state_of_these_conditions_comes_before_one_of_others(states, capsys):
    save(states, "here", "t", HERE)
    save(states, "newer", "t", HERE | {"threads": 8})
    assert conditions_to_resume(states, "t", HERE) == HERE
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("no_threads_asked_for")
def test_only_the_number_of_threads_is_taken_over(states, capsys):
    save(states, "k", "t", HERE | {"processor": "B", "threads": 8, "more": "x"})
    assert conditions_to_resume(states, "t", HERE) == HERE
    assert "is of processor B (here A), threads 8 (here 2), more x (here None)" in capsys.readouterr().out
    save(states, "l", "t", HERE | {"threads": 8})
    assert conditions_to_resume(states, "t", HERE) == HERE | {"threads": 8}


def test_whoever_asks_for_threads_gets_them(states, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    save(states, "k", "t", HERE | {"threads": 8})
    assert conditions_to_resume(states, "t", HERE) == HERE
    assert "is of threads 8 (here 2)" in capsys.readouterr().out


@pytest.mark.usefixtures("no_threads_asked_for")
def test_a_state_that_cannot_be_read_decides_nothing(states):
    save(states, "k", "t", HERE | {"threads": 8})
    (states / "k" / "step-000000000000" / RECORD).write_text("{}")
    (states / "empty").mkdir()
    assert conditions_to_resume(states, "t", HERE) == HERE


def test_every_condition_is_in_the_key():
    found = find_conditions(FP32, 16)
    assert {"device", "precision", "compiled", "torch", "processor", "vector_units", "threads"} == found.keys()
    keys = {training_key("t", found)} | {training_key("t", {**found, name: "other"}) for name in found}
    assert len(keys) == 1 + len(found)


def test_compiled_it_names_compiler_and_kernels(monkeypatch):
    monkeypatch.setattr(module, "compile_kernels", lambda *_: False)
    found = find_conditions(Backend(torch.device("cpu"), torch.float32, compiled=True), 16)
    assert found["kernels"] is False
    assert found["compiler"]


def test_what_the_math_libraries_are_told_is_a_condition(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert find_conditions(FP32, 16)["ONEDNN_MAX_CPU_ISA"] == "AVX2"


def test_the_processor_has_a_name():
    assert processor().strip()
