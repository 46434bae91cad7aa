"""Start the other ranks from the stage, watch them, and connect all."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.signals import GracefulShutdown
from tinystories.training.backend import Backend
from tinystories.training.data import TrainingData
from tinystories.training.distributed import READY, STORE, Ranks
from tinystories.training.step import TrainStep

SILENCE_SECONDS = 30.0  # without a sign of life: a rank hangs
# For rank 0, which the others never let wait long; they wait for its validations.
COLLECTIVE_TIMEOUT = timedelta(seconds=60)
LONG_TIMEOUT = timedelta(days=7)


class Followers:
    """The processes of ranks 1 and up, started by rank 0. All are killed where one dies or says nothing."""

    def __init__(self, params: Params, backend: Backend, ranks: Ranks, store: Path, stop: GracefulShutdown) -> None:
        self._ranks, self._stop, self._ready = ranks, stop, set[int]()
        train = params.train.model_copy(
            update={
                "device": backend.device.type,
                "precision": backend.precision,
                "compile": "on" if backend.compiled else "off",
                "devices": ranks.count,
            }
        )
        message = json.dumps(params.model_copy(update={"train": train}).model_dump(mode="json")).encode()
        self._processes = [self._start(rank, store, message) for rank in range(1, ranks.count)]
        self._heard = [time.monotonic()] * len(self._processes)
        self._thread = threading.Thread(target=self._watch, name="ranks", daemon=True)
        self._closing = threading.Event()
        self._thread.start()

    def _start(self, rank: int, store: Path, message: bytes) -> "subprocess.Popen[bytes]":
        source = str(Path(__file__).resolve().parents[2])
        environment = os.environ | {
            "RANK": str(rank), "WORLD_SIZE": str(self._ranks.count), "LOCAL_RANK": str(rank), STORE: str(store),
            "LOCAL_WORLD_SIZE": str(self._ranks.count), "OMP_NUM_THREADS": str(torch.get_num_threads()),
            "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH")))),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "tinystories.training.follower"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches rank 0 alone, which ends the others after its last step
        )
        assert process.stdin
        with suppress(BrokenPipeError):
            process.stdin.write(message)
            process.stdin.close()
        return process

    def wait_until_ready(self) -> None:
        """Wait until each has built its model. Errors: UserError where one cannot."""
        while len(self._ready) < len(self._processes):
            self._stop.check()
            if self._ranks.failure:
                raise UserError(self._ranks.failure[0])
            time.sleep(0.02)

    def _watch(self) -> None:
        open_pipes = {process.stdout.fileno(): index for index, process in enumerate(self._processes) if process.stdout}
        said = [b""] * len(self._processes)
        while open_pipes and not self._closing.is_set():
            for pipe in select.select(list(open_pipes), [], [], 0.5)[0]:
                index = open_pipes[pipe]
                data = os.read(pipe, 4096)
                self._heard[index] = time.monotonic()
                said[index] += data.lstrip(b".")
                if READY in said[index]:
                    self._ready.add(index)
                if not data:
                    del open_pipes[pipe]
                    self._ended(index, said[index])
            for index in open_pipes.values():
                if time.monotonic() - self._heard[index] > SILENCE_SECONDS:
                    self._fail(
                        f"rank {index + 1} of {self._ranks.count} hangs: no sign of life for {SILENCE_SECONDS:g} s"
                    )

    def _ended(self, index: int, said: bytes) -> None:
        code = self._processes[index].wait()
        if code == 0 or self._closing.is_set():
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"has ended with status {code}"
        if b"!" in said:
            how = "has ended: " + said.partition(b"!")[2].decode(errors="replace").strip()
        self._fail(f"rank {index + 1} of {self._ranks.count} {how}")

    def _fail(self, message: str) -> None:
        if not self._ranks.failure:
            self._ranks.failure.append(message)
            self._stop.failure = f"{message}; run again: the training goes on from its last saved state"
        self._kill()

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()

    def close(self, finished: bool) -> None:
        """Wait for them where the training has finished, else end them."""
        self._closing.set()
        if finished:
            with suppress(subprocess.TimeoutExpired):
                for process in self._processes:
                    process.wait(10)
        self._kill()
        for process in self._processes:
            process.wait()
        self._thread.join()
        for process in self._processes:
            assert process.stdout
            process.stdout.close()


@contextmanager
def connected(
    params: Params, backend: Backend, ranks: Ranks, step: TrainStep, first_step: int, stop: GracefulShutdown
) -> Iterator[None]:
    """Connect rank 0 to the others, whom it gives its state, for the length of the block."""
    if ranks.count == 1:
        yield
        return
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "store"
        followers = None if ranks.joined else Followers(params, backend, ranks, store, stop)
        finished = False
        try:
            if followers:
                followers.wait_until_ready()
            connect(backend, ranks, store if followers else None)
            share_state(ranks, step, first_step)
            yield
            finished = True
        finally:
            if followers:
                followers.close(finished)
            with suppress(Exception):
                dist.destroy_process_group()


def dismiss(params: Params, backend: Backend, ranks: Ranks, step: TrainStep, stop: GracefulShutdown) -> None:
    """Let the ranks of torchrun or Slurm end, where no step is left."""
    if ranks.joined:
        with connected(params, backend, ranks, step, params.train.steps, stop):
            pass


def connect(backend: Backend, ranks: Ranks, store: Path | None) -> None:
    """Join the process group. Errors: UserError where the others do not come, or a port is in use."""
    timeout = LONG_TIMEOUT if ranks.rank else COLLECTIVE_TIMEOUT
    if backend.compiled:  # ranks need not compile equally fast
        timeout = max(timeout, timedelta(minutes=10))
    how: dict[str, object] = {"init_method": "env://"}
    if store:
        how = {"store": torch._C._distributed_c10d.FileStore(str(store), ranks.count)}
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    name = "nccl" if backend.device.type == "cuda" else "gloo"
    with ranks.failures():
        dist.init_process_group(name, rank=ranks.rank, world_size=ranks.count, timeout=timeout, **how)  # type: ignore[arg-type]


def share_state(ranks: Ranks, step: TrainStep, first_step: int) -> int:
    """Give rank 0's tensors to the others. Returns the step from which all go on."""
    tensors = step.state_dict()
    with ranks.failures():
        header = torch.tensor([first_step, torch.get_num_threads()], device=step.loss_sum.device)
        dist.broadcast(header, 0)
        for name in sorted(tensors):
            dist.broadcast(tensors[name].detach(), 0)
    step.load_state_dict(tensors)
    first, threads = header.tolist()
    torch.set_num_threads(threads)
    return int(first)


def follow(params: Params, data: TrainingData, backend: Backend, ranks: Ranks) -> None:
    """Compute this rank's part of each step until the last. Rank 0 does all else."""
    for signal_number in GracefulShutdown.SIGNALS:  # of torchrun and Slurm, to all: rank 0 ends the training in order
        signal.signal(signal_number, signal.SIG_IGN)
    step = TrainStep(params, data.meta.vocab_size, data.train, backend, ranks)
    store = os.environ.get(STORE)
    if store:
        os.write(1, READY)
    connect(backend, ranks, Path(store) if store else None)
    try:
        for number in range(share_state(ranks, step, 0), params.train.steps):
            step.step(number)
    finally:
        with suppress(Exception):
            dist.destroy_process_group()
