"""The machine: what it is, and the most that it can do in this process."""

import os
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tinystories.backend import Backend, describe_environment

PACKAGES = ("numpy", "transformers", "litgpt", "x-transformers", "tokenizers", "tiktoken", "triton")
ROOF_SIZES = (2048, 4096)


def describe(device: torch.device) -> dict[str, Any]:
    """Processor or GPU, cores, threads, memory, versions; nothing that names the machine or its owner."""
    described = describe_environment(Backend(device, torch.float32, compiled=False))
    kept = {key: described[key] for key in ("device", "device_name", "torch", "python", "platform", "threads")}
    kept |= {"cores": os.cpu_count(), "processor": _processor()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        kept |= {"gpu_memory_gib": round(properties.total_memory / 2**30), "cuda": torch.version.cuda}
    return {**kept, "packages": {name: found for name in PACKAGES if (found := _version(name))}}


def kind(device: torch.device) -> str:
    """A short name for a kind of machine, for file names: `cpu`, `nvidia-h100-80gb-hbm3`."""
    return "-".join(torch.cuda.get_device_name(device).lower().split()) if device.type == "cuda" else device.type


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given; on a CPU that is so already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def roof(dtype: torch.dtype, device: torch.device, sizes: tuple[int, ...] = ROOF_SIZES, seconds: float = 0.5) -> float:
    """The best rate of a product of two large square matrices, in FLOP/s: no training step can be faster than this.

    Each size is repeated for about `seconds`, and the best single product (on a GPU: ten in a row) counts, so that
    other work on the machine lowers it little.
    """
    best = 0.0
    in_a_row = 10 if device.type == "cuda" else 1
    for size in sizes:
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        left @ right
        synchronize(device)
        until = time.perf_counter() + seconds
        while True:
            start = time.perf_counter()
            for _ in range(in_a_row):
                left @ right
            synchronize(device)
            end = time.perf_counter()
            best = max(best, 2.0 * size**3 * in_a_row / (end - start))
            if end > until:
                break
    return best


def _processor() -> str | None:
    """Vendor, family and model, which tell apart the processors that go by one name in the cloud. Linux on x86 only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    first = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    keys = ("vendor_id", "cpu family", "model")
    return "{} family {} model {}".format(*(first[key] for key in keys)) if all(key in first for key in keys) else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
