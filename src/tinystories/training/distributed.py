"""The ranks of a training: processes that each compute a part of every batch, on a device of their own.

Rank 0 is the stage as it always is: it alone logs, validates, saves and talks to MLflow. The others only compute.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from tinystories.common.cores import usable_cores
from tinystories.common.errors import UserError, shorten
from tinystories.common.params import Train

STORE = "TINYSTORIES_RANKS_STORE"  # the file by which ranks that the stage has started find each other
READY = b"+"  # what such a rank writes once it has built its model
CAUSE_SECONDS = 3.0  # from an error of a collective to its cause
# Rank, number of ranks and rank on this machine, as torchrun and Slurm's srun set them.
_VARIABLES = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))


@dataclass
class Ranks:
    """This process's rank among `count`. `joined`: by torchrun, Slurm or the stage, else the stage starts the others.

    `failure`: what rank 0 has found out about one that died or hangs.
    """

    rank: int = 0
    count: int = 1
    local_count: int = 1  # on this machine
    joined: bool = False
    failure: list[str] = field(default_factory=list)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Errors: UserError, in one line, where a rank is gone in the middle of a collective."""
        try:
            yield
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise
            waited_since = time.monotonic()
            while not (self.failure or self.joined) and time.monotonic() - waited_since < CAUSE_SECONDS:
                time.sleep(0.02)  # until the thread that watches the others knows which and why
            lines = str(error).splitlines() or [""]
            said = self.failure[0] if self.failure else f"a rank has ended or hangs ({shorten(lines[0], 150)})"
            raise UserError(f"{said}; run again: the training goes on from its last saved state") from None

    def share_threads(self) -> None:
        """Share this machine's cores among its ranks. The user's OMP_NUM_THREADS wins."""
        if self.count > 1 and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, usable_cores() // self.local_count))

    def conditions(self, train: Train, micro_batch: int) -> dict[str, str | int | bool | None]:
        """What decides the bits: the ranks, and the micro-batch where there is more than one."""
        found: dict[str, str | int | bool | None] = {"ranks": self.count}
        return found | ({"micro_batch_size": micro_batch} if micro_batch * self.count < train.batch_size else {})


ONE_PROCESS = Ranks()


def choose_ranks(train: Train, device: torch.device) -> Ranks:
    """Resolve train.devices, and take this rank's GPU.

    Errors: UserError for more devices than there are, a rank without a GPU, a batch that cannot be divided.
    """
    ranks = _from_environment()
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    wanted = train.devices
    if ranks.joined:
        if wanted not in ("auto", ranks.count):
            raise UserError(f"train.devices is {wanted}, but there are {ranks.count} ranks; it should be auto")
        local = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
        if device.type == "cuda":
            if local >= gpus:
                raise UserError(
                    f"rank {ranks.rank} is number {local} on its machine, which has {gpus} GPUs; start fewer"
                )
            torch.cuda.set_device(local)
    else:
        count = (gpus or 1) if wanted == "auto" else wanted
        if device.type == "mps" and count > 1:
            raise UserError(f"train.devices is {count}, but MPS is one device; it should be auto or 1")
        if gpus and count > gpus:
            raise UserError(f"train.devices is {count}, but there are {gpus} GPUs; it should be auto or at most {gpus}")
        ranks = replace(ranks, count=count, local_count=count)
    _check_batch(train, ranks.count)
    return ranks


def _check_batch(train: Train, count: int) -> None:
    if train.batch_size % count:
        raise UserError(
            f"train.batch_size is {train.batch_size} and there are {count} ranks; it should be a multiple of {count}"
        )
    micro = train.micro_batch_size
    if micro != "auto" and train.batch_size // count % micro:
        raise UserError(
            f"train.micro_batch_size is {micro}; it should divide a rank's part of the batch "
            f"({train.batch_size // count})"
        )


def _from_environment() -> Ranks:
    for names in _VARIABLES:
        rank, count, _ = (os.environ.get(name, "").strip() for name in names)
        if count in ("", "0", "1"):
            continue
        if not (rank.isdecimal() and count.isdecimal() and int(rank) < int(count)):
            raise UserError(f"{names[0]} is {rank!r} and {names[1]} is {count!r}; torchrun or srun sets both")
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing and STORE not in os.environ:
            raise UserError(f"{names[1]} is {count}, but {missing[0]} is not set; see docs/scale.md")
        local = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or count
        return Ranks(int(rank), int(count), int(local) if local.isdecimal() else int(count), joined=True)
    return Ranks()
