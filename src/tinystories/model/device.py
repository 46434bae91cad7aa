"""The device that computes: how it is chosen, named, and how its errors are told."""

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tinystories.common.errors import UserError

# What errors say that PyTorch has no exceptions of their own for: on a CPU, on MPS, in CUDA's libraries.
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory|_ALLOC_FAILED")
_DEVICE_ERROR = re.compile(r"(CUDA|cuDNN|HIP|MPS)( \w+)? error|Triton Error", re.IGNORECASE)


def choose_device(wanted: str) -> torch.device:
    """CUDA, else MPS, else CPU, for `auto`. Errors: UserError where `wanted` is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        wanted = next(name for name, there in available.items() if there)
    if not available[wanted]:
        found = ", ".join(name for name, there in available.items() if there)
        raise UserError(f"train.device is {wanted}, but PyTorch finds only {found} here; it should be auto or {found}")
    return torch.device(wanted)


@contextmanager
def translate_device_errors(lower: str) -> Iterator[None]:
    """Say in one line what the device cannot do during the block. `lower`: the parameters that lower its memory.

    Errors: UserError for memory that is not there, and for a device that fails or is gone.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), "")[:200]
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or _OUT_OF_MEMORY.search(first):
            size = re.search(r"allocate [\d.]+ \w+", first)
            raise UserError(f"out of memory{f' (cannot {size[0]})' if size else ''}; lower {lower}") from None
        if isinstance(error, torch.AcceleratorError) or _DEVICE_ERROR.search(first):
            raise UserError(f"the device fails ({first}); once it works, run again: what was saved stands") from None
        raise


def processor() -> str:
    """Vendor, family and model, which tell apart the processors that go by one name in the cloud."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    first = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    for keys in (("vendor_id", "cpu family", "model"), ("CPU implementer", "CPU architecture", "CPU part")):
        if all(key in first for key in keys):
            return "{} family {} model {}".format(*(first[key] for key in keys))
    return platform.processor() or platform.machine()
