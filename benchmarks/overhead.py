"""The overhead of the `train` stage over its bare steps: history, progress, MLflow, saved states.

A noisy machine cannot tell two runs apart that differ by 2 %, so one real run is accounted for from within. A process
of its own makes stories, tokenizer and tokens with the library and trains on them, with MLflow's SQLite store in the
background, as `dvc repro` would. Counted are, from the moment at which MLflow's run is open to the last step:

- inside: the time spent in `TrainStep.step`, which is all that a bare loop does;
- outside: the rest of the time, which is the stage's own, the loss on the validation slice included. Validation on the
  whole set and samples come after the last step;
- background: the processor time of all other Python threads. It may slow the steps down, by no more than itself.

The cost is (outside + background) / inside: the most by which the stage can be slower than a bare loop. On a GPU
steps do not end inside `TrainStep.step`, so this is measured on the CPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.results import Result
from benchmarks.workload import REFERENCE, ROOT, TINY, committed_params
from tinystories.common.params import ModelConfig, Params

SMALL = ModelConfig(context_length=256, embedding_size=128, layers=4, heads=4)  # that of `make quickstart`
COUNTED = ("inside", "outside", "background")
WARM_UP = 5  # steps before the count begins
OPENING = 60.0  # seconds that MLflow may take to open its run


def measure(tiny: bool = False) -> Result:
    """Cost of the stage in percent of its bare steps, at a small and at the reference shape."""
    works = (
        [("tiny", TINY, 4, 300, 300, 40)]
        if tiny
        # name, shape, batch, vocabulary, stories, steps: a minute or two each, so that states are saved on the way
        else [("small", SMALL, 8, 2000, 5000, 400), ("reference", REFERENCE, 32, 10000, 25000, 60)]
    )
    return {
        "title": "Overhead of the train stage over its bare steps, on the CPU",
        "columns": ["shape", "steps", *(f"ms/step {what}" for what in COUNTED), "states saved", "cost", "opening"],
        "rows": [_row(*work) for work in works],
        "notes": [
            "log_every 20, save_every 30 s, MLflow in SQLite; what is counted: benchmarks/overhead.py",
            "opening: seconds of one core, once a run, that MLflow took in the background before",
        ],
    }


def _row(name: str, config: ModelConfig, batch: int, vocab_size: int, stories: int, steps: int) -> dict[str, Any]:
    work = {"model": config.model_dump(), "batch": batch, "vocabulary": vocab_size, "stories": stories, "steps": steps}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW"))}
    environment |= {
        "PYTHONPATH": os.pathsep.join(str(path) for path in (ROOT, ROOT / "stages")),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "benchmarks.overhead", json.dumps(work)]
        subprocess.run(command, cwd=directory, env=environment, stdout=sys.stderr, check=True)
        found = json.loads(Path(directory, "found.json").read_text(encoding="utf-8"))
    counted = found["steps"]
    return {
        "shape": name,
        "steps": counted,
        **{f"ms/step {what}": round(1000 * found[what] / counted, 3) for what in COUNTED},
        "states saved": found["saves"],
        "cost": f"{(found['outside'] + found['background']) / found['inside']:.2%}",
        "opening": round(found["opening"], 1),
    }


class Account:
    """Where the time of a training goes."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last  # the steps that count, the last one not
        self.inside = self.start = self.background_at_start = 0.0
        self.found: dict[str, float] = {}
        self.opened = threading.Event()

    def step(self, number: int, step: Callable[[int], None]) -> None:
        """Make the step, and count it where it counts."""
        if number == self.first:
            if not self.opened.wait(OPENING):
                sys.exit(f"MLflow has not opened its run within {OPENING:g} s")
            self.start, self.background_at_start = time.perf_counter(), background()
        start = time.perf_counter()
        step(number)
        end = time.perf_counter()
        if number >= self.first:
            self.inside += end - start
        if number == self.last - 1:
            self.found = {
                "steps": self.last - self.first,
                "inside": self.inside,
                "outside": end - self.start - self.inside,
                "background": background() - self.background_at_start,
                "opening": self.background_at_start,
            }


def background() -> float:
    """Processor seconds so far of all Python threads of this process but the one that asks."""
    seconds = 0.0
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.ident is not None:
            with suppress(OSError):  # it has just ended
                seconds += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return seconds


def _train_accounted(work: dict[str, Any]) -> None:
    """In the process of its own: everything from stories to the trained model, in the current directory."""
    import download
    import tokenize_to_memmap
    import train_tokenizer
    from tinystories.tracking import mlflow_run as tracking
    from tinystories.training import resume, trainer
    from tinystories.training.step import TrainStep

    params = _params(work)
    for stage in (download, train_tokenizer, tokenize_to_memmap):
        stage.main(params)

    steps = params.train.steps
    account = Account(WARM_UP, steps)
    saves: list[int] = []
    bare_step, save, open_run = TrainStep.step, resume.ResumeCheckpoint.save, tracking.MlflowRun.start

    def counted_step(self: TrainStep, number: int) -> None:
        account.step(number, lambda n: bare_step(self, n))

    def counted_save(self: resume.ResumeCheckpoint, tensors: Any, state: resume.TrainerState) -> None:
        saves.append(state.step)
        save(self, tensors, state)

    def noticed_open(self: tracking.MlflowRun) -> None:
        open_run(self)
        account.opened.set()

    TrainStep.step = counted_step  # type: ignore[method-assign, assignment]
    resume.ResumeCheckpoint.save = counted_save  # type: ignore[method-assign]
    tracking.MlflowRun.start = noticed_open  # type: ignore[method-assign]
    trainer.train(params, experiment=None)
    between = [step for step in saves if account.first < step < steps]
    Path("found.json").write_text(json.dumps({**account.found, "saves": len(between)}), encoding="utf-8")


def _params(work: dict[str, Any]) -> Params:
    values = committed_params().model_dump()
    values["data"] |= {"source": "embedded", "embedded": {"stories": work["stories"], "seed": 0}}
    values["tokenizer"]["vocab_size"] = work["vocabulary"]
    values["model"] = work["model"]
    values["train"] |= {"batch_size": work["batch"], "epochs": 1, "steps_per_epoch": work["steps"]}
    values["train"] |= {"device": "cpu", "precision": "auto", "compile": "off", "log_every": 20, "save_every": 30.0}
    values["sample"] |= {"prompts": (), "max_new_tokens": 1}
    return Params.model_validate(values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train as told in JSON, in the current directory; write found.json.")
    parser.add_argument("work", type=json.loads)
    _train_accounted(parser.parse_args().work)
