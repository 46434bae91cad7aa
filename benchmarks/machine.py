"""Describe the machine."""

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from tinystories.model.device import processor
from tinystories.training.backend import Backend, describe_environment

PACKAGES = ("numpy", "transformers", "litgpt", "x-transformers", "tokenizers", "tiktoken", "triton")


def describe(device: torch.device) -> dict[str, Any]:
    """Processor or GPU, cores, threads, memory, versions; nothing that names the machine or its owner."""
    described = describe_environment(Backend(device, torch.float32, compiled=False))
    kept = {key: described[key] for key in ("device", "device_name", "torch", "python", "platform", "threads")}
    kept |= {"cores": os.cpu_count(), "processor": processor()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        kept |= {"gpu_memory_gib": round(properties.total_memory / 2**30), "cuda": torch.version.cuda}
    return {**kept, "packages": {name: found for name in PACKAGES if (found := _version(name))}}


def kind(device: torch.device) -> str:
    """A short name for a kind of machine, for file names: `cpu`, `nvidia-h100-80gb-hbm3`."""
    return "-".join(torch.cuda.get_device_name(device).lower().split()) if device.type == "cuda" else device.type


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given. On a CPU it has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
