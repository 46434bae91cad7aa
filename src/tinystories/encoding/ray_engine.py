"""Encode blocks of stories by the workers of a Ray cluster (`data.engine: ray`).

A block travels with its task and its ids come back, so that workers need no file of this machine. Results are taken in
the order of the blocks: the token file is that of the local run.

Ray runs in a process of its own (ray_driver.py). In this one it would take the signals over: an exception of their
handlers breaks `ray.get`, a SIGTERM while Ray starts is a crash, and some of its processes outlive both. That process
leads a session, in which all processes of a cluster on this machine stay, and they end with it.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import psutil
from tokenizers import Tokenizer

import tinystories
from tinystories.common.engine import no_answer, ray_address
from tinystories.common.errors import UserError, shorten
from tinystories.corpus.stories import StoryBlock

BLOCKS_PER_CORE = 2  # on their way at once: one that is encoded, one that waits for the core
MAX_BLOCKS = 64  # on their way at once, however many cores
READY, IDS, ERROR = b"r", b"i", b"e"  # begin a message of the driver
ANSWER_SECONDS = 24.0  # for a cluster that runs; Ray itself would try for minutes
START_SECONDS = 120.0  # for one to be started
STOP_SECONDS = 5.0

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning where there is a GPU
}


class RayEncoder:
    """The driver, connected to a cluster."""

    def __init__(self, pipe: Connection, log: IO[bytes]) -> None:
        self._pipe, self._log = pipe, log
        self.limit = 0

    def connect(self, address: str) -> None:
        """Wait until Ray is there. Errors: UserError where it does not come."""
        seconds = START_SECONDS if address == "local" else ANSWER_SECONDS
        try:
            if not self._pipe.poll(seconds):
                raise UserError(f"not in {seconds:g} s")
            self.limit = int(self._receive(READY))
        except UserError as error:
            if address == "local":
                raise UserError(f"Ray does not start on this machine: {error}") from None
            if "InvalidAuthToken" in self._lines():
                raise no_answer(address, "it wants its token: RAY_AUTH_MODE=token, see docs/scale.md") from None
            raise no_answer(address, str(error)) from None

    def encode_blocks(self, blocks: Iterable[StoryBlock], tokenizer: Tokenizer) -> Iterator[bytes]:
        """Do as `encoder.encode_blocks` does. At most `limit` blocks are on their way.

        Errors: as there, and UserError where workers keep dying or the cluster has gone.
        """
        self._send(tokenizer.to_str().encode())
        pending = 0
        for block in blocks:
            self._send(block.data)
            pending += 1
            if pending >= self.limit:
                yield self._receive(IDS)
                pending -= 1
        self._send(b"")
        for _ in range(pending):
            yield self._receive(IDS)

    def _send(self, data: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # what the driver said before it ended is read next
            self._pipe.send_bytes(data)

    def _receive(self, kind: bytes) -> bytes:
        try:
            message = self._pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            last = next(filter(str.strip, self._lines().split("\n")[::-1]), "")
            raise UserError(f"Ray's driver ended: {shorten(last, 300)}") from None
        if message[:1] != kind:
            raise UserError(message[1:].decode())
        return message[1:]

    def _lines(self) -> str:
        """Return what the driver has printed."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")


@contextmanager
def cluster() -> Iterator[RayEncoder]:
    """Connect to the cluster of RAY_ADDRESS for the time of the block, or start one on this machine and stop it.

    Errors: UserError where there is none.
    """
    address = ray_address()
    ours, drivers = Pipe()
    source = str(Path(tinystories.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    environment = {**_ENVIRONMENT, **os.environ, "PYTHONPATH": path}
    if address == "local":  # its ports are open to the network: only who has this token may use them
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with tempfile.TemporaryFile() as log, ours:
        driver = subprocess.Popen(
            [sys.executable, "-m", "tinystories.encoding.ray_driver", str(drivers.fileno()), address],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[drivers.fileno()],
            start_new_session=True,
            env=environment,
        )
        try:
            drivers.close()
            encoder = RayEncoder(ours, log)
            encoder.connect(address)
            yield encoder
            ours.close()
            with suppress(subprocess.TimeoutExpired):
                driver.wait(STOP_SECONDS)
        finally:
            _kill_session(driver.pid)
            driver.wait()


def blocks_at_once(cores: float) -> int:
    """Return how many blocks may be on their way on a cluster of so many cores."""
    return min(max(int(cores), 1) * BLOCKS_PER_CORE, MAX_BLOCKS)


def _kill_session(leader: int) -> None:
    """Kill the processes of a session until there is none: one may start another before its turn comes."""
    deadline = time.monotonic() + STOP_SECONDS
    while found := [pid for pid in psutil.pids() if _session(pid) == leader]:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _session(pid: int) -> int | None:
    """Return the session of a process that lives."""
    try:
        return os.getsid(pid) if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OSError):
        return None
