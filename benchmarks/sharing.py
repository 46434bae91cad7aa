"""Training on shared cores: alone, beside busy processes, and four trainings at once.

While a thread waits for the others it first looks for work in a loop ("spins"), then sleeps. On cores that belong to
others too, spinning takes the time that the awaited threads need. Each setting of that is measured at the shape of
`make quickstart`, in processes of its own, because the OpenMP runtime reads it once.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.contenders import WARM_UP, ours
from benchmarks.overhead import SMALL
from benchmarks.results import Result
from benchmarks.workload import TINY_VOCABULARY, benchmark_params, zipf_tokens
from tinystories.common.cores import SPIN_COUNT, usable_cores

SETTINGS = {
    f"as the stages: GOMP_SPINCOUNT={SPIN_COUNT:,}": {"GOMP_SPINCOUNT": str(SPIN_COUNT)},
    "the runtime's default": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
}
PROCESSES = 4
ROUNDS = 3
REPEATS = 2  # all settings, and all once more


def measure(tiny: bool = False) -> Result:
    """Tokens a second of each setting and situation: medians of `ROUNDS` × `REPEATS`, the settings in turn."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SETTINGS}
    for _ in range(1 if tiny else REPEATS):
        for name, environment in SETTINGS.items():
            with _trainings(environment, tiny) as trainings:
                found[name] += [_round(trainings, 0.05 if tiny else 4.0) for _ in range(1 if tiny else ROUNDS)]
    return {
        "title": f"Training on shared cores ({usable_cores()} here), quickstart's shape: tokens/s, medians",
        "columns": ["setting", "alone", "beside busy processes", "four at once, together", "busy/alone", "four/alone"],
        "rows": [_row(name, rounds) for name, rounds in found.items()],
        "notes": ["busy processes: one a core, in an endless loop", "alone: the other three trainings wait"],
    }


def _row(name: str, rounds: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    alone, busy, four = (statistics.median(values) for values in zip(*rounds, strict=True))
    return {
        "setting": name,
        "alone": alone,
        "beside busy processes": busy,
        "four at once, together": four,
        "busy/alone": busy / alone,
        "four/alone": four / alone,
    }


def _round(trainings: Sequence[Connection], seconds: float) -> tuple[float, float, float]:
    alone = _tokens_per_second(trainings[:1], seconds)
    with _busy_processes():
        busy = _tokens_per_second(trainings[:1], seconds)
    return alone, busy, _tokens_per_second(trainings, seconds)


def _tokens_per_second(trainings: Sequence[Connection], seconds: float) -> float:
    """Let these train at the same time. Returns the sum of their speeds."""
    for training in trainings:
        training.send(seconds)
    return float(sum(training.recv() for training in trainings))


@contextmanager
def _trainings(environment: dict[str, str], tiny: bool) -> Iterator[list[Connection]]:
    """Start `PROCESSES` processes that train when they are told to."""
    variables = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", *environment}
    before = {name: os.environ.pop(name, None) for name in variables}
    os.environ.update(environment)
    pipes = [multiprocessing.Pipe() for _ in range(PROCESSES)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_train, args=(theirs, tiny), daemon=True) for _, theirs in pipes]
    try:
        for process in processes:
            process.start()
        for own, _ in pipes:
            own.recv()  # ready
        yield [own for own, _ in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _busy_processes() -> Iterator[None]:
    """One for each core."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(usable_cores())]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _train(connection: Connection, tiny: bool) -> None:
    params = benchmark_params(
        tiny, device="cpu", compile="off" if tiny else "on", **({} if tiny else {"batch_size": 8})
    )
    vocab_size = TINY_VOCABULARY if tiny else 2000
    if not tiny:
        params = params.model_copy(update={"model": SMALL})
    contender = ours(params, vocab_size, zipf_tokens(10_000 if tiny else 500_000, vocab_size))
    contender.run(WARM_UP)
    connection.send("ready")
    tokens = params.train.batch_size * params.model.context_length
    while True:
        seconds = connection.recv()
        start, first = time.monotonic(), contender.steps
        while time.monotonic() < start + seconds:
            contender.run(1)
        connection.send((contender.steps - first) * tokens / (time.monotonic() - start))
