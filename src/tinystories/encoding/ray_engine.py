"""Encode blocks of stories by the workers of a Ray cluster (`data.engine: ray`). Only then is this module imported.

A block travels with its task and its ids come back, so that workers need no file of this machine. Results are taken in
the order of the blocks: the token file is that of the local run.
"""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
from tokenizers import Tokenizer

import tinystories
from tinystories.common.cores import usable_cores
from tinystories.common.engine import no_answer, ray_address
from tinystories.common.errors import UserError, shorten
from tinystories.common.signals import Stopped
from tinystories.corpus.stories import StoryBlock
from tinystories.encoding.encoder import BlockEncoder

BLOCKS_PER_CORE = 2  # on their way at once: one that is encoded, one that waits for the core
MAX_BLOCKS = 64  # on their way at once, however many cores
RETRIES = 5  # of a block whose worker died
ANSWER_SECONDS = 20.0
OBJECT_STORE_BYTES = 2**28  # at least, of a local cluster; blocks beyond it go to the disk
BYTES_PER_BLOCK = 2**24  # of the object store: a block of 4 MB and its ids

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning where there is a GPU
}
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}


@contextmanager
def cluster() -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS for the time of the block, or start one on this machine and stop it.

    Errors: UserError where the cluster does not answer.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = ray_address()
    # The workers run this tree's code; what else it imports they have from their own environment.
    options: dict[str, Any] = {"runtime_env": {"py_modules": [str(Path(tinystories.__file__).parent)]}, **_QUIET}
    if address == "local":
        cores = usable_cores()
        store = max(OBJECT_STORE_BYTES, _blocks_at_once(cores) * BYTES_PER_BLOCK)
        options |= {"num_cpus": cores, "object_store_memory": store, "include_dashboard": False}
    else:
        _await_answer(address)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(address, **options)
        except SystemExit:  # Ray's own handler of SIGTERM, in place while it starts
            raise Stopped(signal.SIGTERM, immediate=True) from None
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise UserError(f"Ray does not start: {shorten(str(error), 300)}") from None
        finally:
            signal.signal(signal.SIGTERM, handler)
        yield
    finally:
        ray.shutdown()


def _await_answer(address: str) -> None:
    """Connect from a process of its own: Ray tries for minutes, or ends the process. Errors: UserError."""
    connect = f"import ray, sys; ray.init(sys.argv[1], **{_QUIET})"
    command = [sys.executable, "-c", connect, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise no_answer(address, f"not in {ANSWER_SECONDS:g} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise no_answer(address, shorten(lines[-1], 300))


def encode_blocks(blocks: Iterable[StoryBlock], tokenizer: Tokenizer) -> Iterator[bytes]:
    """Do as `encoder.encode_blocks` does, on the cluster. Errors: as there, and UserError where workers keep dying."""
    limit = _blocks_at_once(ray.cluster_resources().get("CPU", 1))
    shared = ray.put(tokenizer.to_str())
    pending: deque[Any] = deque()
    for block in blocks:
        pending.append(_task.remote(block.data, shared))
        if len(pending) >= limit:
            yield _result(pending.popleft())
    while pending:
        yield _result(pending.popleft())


def _blocks_at_once(cores: float) -> int:
    return min(max(int(cores), 1) * BLOCKS_PER_CORE, MAX_BLOCKS)


def _result(reference: Any) -> bytes:
    try:
        return bytes(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise UserError(f"Ray did not encode a block in {RETRIES + 1} attempts: {shorten(str(error), 300)}") from None


def encode_block(data: bytes, tokenizer: str) -> bytes:
    """Encode a block in a worker. `tokenizer`: the text of tokenizer.json."""
    return _encoder(tokenizer).encode(data)


@lru_cache(maxsize=1)
def _encoder(tokenizer: str) -> BlockEncoder:
    return BlockEncoder(Tokenizer.from_str(tokenizer))


_task = ray.remote(max_retries=RETRIES, scheduling_strategy="SPREAD")(encode_block)
