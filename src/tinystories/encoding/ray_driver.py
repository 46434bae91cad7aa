"""The process that speaks with Ray: `python -m tinystories.encoding.ray_driver FD ADDRESS`. See ray_engine.py.

Only this module imports Ray. Blocks come through the pipe FD; what goes back begins with READY, IDS or ERROR.
"""

import sys
from collections import deque
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ray
from tokenizers import Tokenizer

import tinystories
from tinystories.common.cores import usable_cores
from tinystories.common.errors import UserError, shorten
from tinystories.encoding.encoder import BlockEncoder
from tinystories.encoding.ray_engine import ERROR, IDS, READY, blocks_at_once

RETRIES = 5  # of a block whose worker died
OBJECT_STORE_BYTES = 2**28  # at least, of a cluster on this machine; what it cannot hold goes to the disk
BYTES_PER_BLOCK = 2**24  # of the object store: a block of 4 MB and its ids


def main(pipe: Connection, address: str) -> None:
    """Encode the blocks that come through `pipe` until it is closed."""
    try:
        cores = _connect(address)
        limit = blocks_at_once(cores)
        pipe.send_bytes(READY + str(limit).encode())
        _serve(pipe, limit)
    except UserError as error:
        pipe.send_bytes(ERROR + str(error).encode())
    except (EOFError, OSError):  # the stage has ended, or wants no more
        pass
    finally:
        ray.shutdown()


def _connect(address: str) -> float:
    """Connect to a cluster, or start one on this machine; return its number of cores. Errors: UserError."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if address == "local":
        cores = usable_cores()
        store = max(OBJECT_STORE_BYTES, blocks_at_once(cores) * BYTES_PER_BLOCK)
        options |= {"num_cpus": cores, "object_store_memory": store, "include_dashboard": False}
    else:
        # The workers run this tree's code; what it imports they have from their own environment.
        options |= {"runtime_env": {"py_modules": [str(Path(tinystories.__file__).parent)]}}
    try:
        ray.init(address, **options)
        return float(ray.cluster_resources().get("CPU", 1))
    except Exception as error:
        raise UserError(shorten(str(error), 300)) from None


def _serve(pipe: Connection, limit: int) -> None:
    """Take the tokenizer, then blocks. From the block number `limit` on, give one result for each block taken.

    An empty message ends the blocks of a file: the results that are left follow, and another file may.
    """
    while True:
        tokenizer = ray.put(pipe.recv_bytes().decode())
        pending: deque[Any] = deque()
        while block := pipe.recv_bytes():
            pending.append(_task.remote(block, tokenizer))
            if len(pending) >= limit:
                pipe.send_bytes(IDS + _result(pending.popleft()))
        while pending:
            pipe.send_bytes(IDS + _result(pending.popleft()))


def _result(reference: Any) -> bytes:
    try:
        return bytes(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise UserError(f"encoding failed in a worker of Ray: {shorten(repr(error.cause), 300)}") from None
    except ray.exceptions.RayError as error:
        raise UserError(f"Ray gave up a block after {RETRIES} retries: {shorten(str(error), 300)}") from None


def encode_block(data: bytes, tokenizer: str) -> bytes:
    """Encode a block in a worker. `tokenizer`: the text of tokenizer.json."""
    return _encoder(tokenizer).encode(data)


@lru_cache(maxsize=1)
def _encoder(tokenizer: str) -> BlockEncoder:
    return BlockEncoder(Tokenizer.from_str(tokenizer))


_task = ray.remote(max_retries=RETRIES, scheduling_strategy="SPREAD")(encode_block)

if __name__ == "__main__":
    # Ray sends the functions of a module that workers can import by name, and those of `__main__` by value.
    from tinystories.encoding import ray_driver

    ray_driver.main(Connection(int(sys.argv[1])), sys.argv[2])
