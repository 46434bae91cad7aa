"""The device that computes: how it is chosen, what it is called, and how its errors are told."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tinystories.common.cores import usable_cores
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


def limit_threads() -> None:
    """Use no more threads than the cores that this process may use: PyTorch knows nothing of a container's quota.

    The user's OMP_NUM_THREADS wins. Compiling takes as many processes.
    """
    cores = usable_cores()
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores:
        torch.set_num_threads(cores)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(min(cores, 32)))  # 32: PyTorch's own limit


@contextmanager
def translate_device_errors(hint: str) -> Iterator[None]:
    """Turn the errors of PyTorch and of the device into one line for the user.

    `hint` names the parameters that decide how much memory is used.
    Errors: UserError where memory is out, or the device fails or is gone.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), "")[:200]
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or _OUT_OF_MEMORY.search(first):
            size = re.search(r"allocate [\d.]+ \w+", first)
            raise UserError(f"out of memory{f' (cannot {size[0]})' if size else ''}; lower {hint}") from None
        if isinstance(error, torch.AcceleratorError) or _DEVICE_ERROR.search(first):
            raise UserError(f"the device fails ({first}); once it works, run again: what was saved stands") from None
        raise


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's and its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = _cpuinfo().get("model name") or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def processor() -> str:
    """Vendor, family and model of the CPU: they differ between processors of one name in the cloud."""
    cpu = _cpuinfo()
    for keys in (("vendor_id", "cpu family", "model"), ("CPU implementer", "CPU architecture", "CPU part")):
        if all(key in cpu for key in keys):
            return "{} family {} model {}".format(*(cpu[key] for key in keys))
    return platform.processor() or platform.machine()


def _cpuinfo() -> dict[str, str]:
    """Entries of the first core in /proc/cpuinfo. Empty where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
