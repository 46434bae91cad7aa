"""What the training runs on: the device, the precision, whether compiled; and how the record names it."""

import importlib.util
import os
import platform
import subprocess
from dataclasses import dataclass

import torch

from tinystories.errors import UserError
from tinystories.params import Train


@dataclass(frozen=True)
class Backend:
    """A device and how to compute on it."""

    device: torch.device
    dtype: torch.dtype
    compiled: bool

    @property
    def precision(self) -> str:
        """`bf16` or `fp32`."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"


def choose_backend(train: Train) -> Backend:
    """Resolve `auto` in train.device, train.precision and train.compile.

    Errors: UserError where something was asked for that this machine has not.
    """
    device = choose_device(train.device)
    precision = train.precision
    if precision == "auto":
        precision = "bf16" if _computes_in_bf16(device) else "fp32"
    elif precision == "bf16" and device.type == "cuda" and not _computes_in_bf16(device):
        raise UserError("train.precision is bf16, but this GPU does not compute in bf16; it should be auto or fp32")
    # On a CPU compiling costs a minute and needs a C++ compiler: worth it for long runs, so it has to be asked for.
    auto_compile = device.type == "cuda" and importlib.util.find_spec("triton") is not None
    compiled = train.compile == "on" or (train.compile == "auto" and auto_compile)
    return Backend(device, torch.bfloat16 if precision == "bf16" else torch.float32, compiled)


def choose_device(wanted: str) -> torch.device:
    """CUDA, else MPS, else CPU, for `auto`. Errors: UserError where `wanted` is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        wanted = next(name for name, there in available.items() if there)
    if not available[wanted]:
        found = ", ".join(name for name, there in available.items() if there)
        raise UserError(f"train.device is {wanted}, but PyTorch finds only {found} here; it should be auto or {found}")
    return torch.device(wanted)


def describe_environment(backend: Backend) -> dict[str, str | int | bool | None]:
    """What ran on what, for models/run.json."""
    return {
        "device": backend.device.type,
        "device_name": _device_name(backend.device),
        "precision": backend.precision,
        "compiled": backend.compiled,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
    }


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Without these units a CPU emulates bf16, slower than fp32. PyTorch before 2.12 cannot say what a CPU has.
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:  # noqa: PTH123
            names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    except OSError:
        names = []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _git_commit() -> str | None:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
