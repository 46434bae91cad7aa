"""One key, one result: a matrix of threads, kernels, compiling and stops. Needs a C++ compiler and root (mount)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.repository import PARAMS, ROOT
from tests.support.small_training import lay_out_tokens

pytestmark = pytest.mark.slow

# Large enough that PyTorch divides sums among threads, and with gradients that are clipped. Each argument is a move: a
# step to stop at (0: none), or "forget", which deletes saved states. After a training's end its key and a hash of its
# bits are printed.
TRAINING = """
import hashlib, json, os, shutil, signal, sys
from pathlib import Path
from tests.support.small_training import NoRun
from tinystories.training import trainer
from tinystories.training.step import TrainStep
from tinystories.common.params_file import load_params
from tinystories.common.signals import Stopped

compiled, moves = sys.argv[1], sys.argv[2:]
NoRun.ended = []
trainer.AsyncRunLogger = NoRun
params = load_params(Path(os.environ["PARAMS"]))
model = {"context_length": 32, "embedding_size": 128, "layers": 1, "heads": 8}
train = {"batch_size": 16, "epochs": 2, "steps_per_epoch": 2, "precision": "bf16", "device": "cpu", "compile": compiled,
         "gradient_clip": 0.1}
params = params.model_copy(update={
    "model": params.model.model_copy(update=model), "train": params.train.model_copy(update=train),
    "sample": params.sample.model_copy(update={"max_new_tokens": 3, "prompts": ()}),
})
step, stop_at = TrainStep.step, 0
def step_and_stop(train_step, number):
    step(train_step, number)
    if number + 1 == stop_at:
        os.kill(os.getpid(), signal.SIGTERM)
TrainStep.step = step_and_stop
for move in moves:
    if move == "forget":
        shutil.rmtree(".state", ignore_errors=True)
        continue
    for room in ("models", "reports"):
        shutil.rmtree(room, ignore_errors=True)
    stop_at = int(move)
    try:
        trainer.train(params, None)
    except Stopped:
        continue
    digest = hashlib.sha256()
    for name in ("models/checkpoint/model.safetensors", "models/epochs/epoch_1/model.safetensors"):
        digest.update(Path(name).read_bytes())
    print("result", json.loads(Path("models/run.json").read_text())["key"], digest.hexdigest())
"""


class Case(NamedTuple):
    """The settings of a process. `threads` None: OMP_NUM_THREADS is not set."""

    compiled: str
    kernels: bool
    threads: int | None


class Trainings:
    """Trainings of a few steps, in one directory."""

    def __init__(self, path: Path, no_exec: Path) -> None:
        self._path, self._no_exec = path, no_exec

    def run(self, case: Case, *moves: str, cores: str | None = None) -> tuple[str, list[str]]:
        """Run these moves in a process. Returns its output and its results. `cores`: the only ones it may use."""
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        environment |= {"PARAMS": str(PARAMS), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
        environment |= {"OMP_NUM_THREADS": str(case.threads)} if case.threads else {}
        environment |= {} if case.kernels else {"TMPDIR": str(self._no_exec)}
        prefix = ["taskset", "-c", cores] if cores else []
        command = [*prefix, sys.executable, "-c", TRAINING, case.compiled, *moves]
        done = subprocess.run(command, cwd=self._path, env=environment, capture_output=True, text=True, timeout=900)
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


def test_train_with_one_key_gives_the_same_bits_stopped_or_not(trainings):
    """The README's sentence. A result may differ between two keys; it must not within one."""
    found: dict[str, str] = {}
    for case in CASES:
        said, results = trainings.run(case, "forget", "0", "forget", "2", "0")
        assert "Resuming from step 2" in said
        through, stopped = results
        assert stopped == through, case
        _, key, bits = through.split()
        assert found.setdefault(key, bits) == bits, case
    assert len(set(found.values())) > 2, "conditions that decide no bit would test nothing"


def test_train_resumes_with_the_same_number_of_threads(trainings):
    _, [through] = trainings.run(Case("off", True, 2), "forget", "0", "forget", "2")
    said, [result] = trainings.run(Case("off", True, None), "0", cores="0")
    assert "started with 2 threads" in said
    assert "Resuming from step 2" in said
    assert result == through


def test_train_starts_over_under_other_conditions(trainings):
    _, [through] = trainings.run(Case("off", True, 1), "forget", "0")
    trainings.run(Case("off", True, 2), "forget", "2")
    said, [result] = trainings.run(Case("off", True, 1), "0")
    assert "a saved state of this training is of threads 2 (here 1); that gives other bits" in said
    assert "Resuming" not in said
    assert result == through
