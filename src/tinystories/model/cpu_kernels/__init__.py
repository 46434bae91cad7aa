"""C++ kernels for what PyTorch computes too slowly on a CPU: attention, cross-entropy, decoding."""

import ctypes
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from tinystories.common.console import info, warn
from tinystories.model.stock_config import NORM_EPSILON

MAX_LANES = 16  # numbers in the longest vector of any CPU
OUT_BLOCK = 32  # outputs in a block of the decoder's packed weights
_SOURCES = [Path(__file__).with_name(name) for name in ("attention.cpp", "cross_entropy.cpp", "decoder.cpp")]
_ELEMENTS = {torch.bfloat16: "uint16_t", torch.float32: "float"}
_kernels: dict[tuple[int, torch.dtype], ctypes.CDLL] = {}


def compile_kernels(head_size: int, dtype: torch.dtype) -> bool:
    """Compile the kernels for this CPU; `model/ops.py` chooses them from then on. False where that is not possible.

    It takes one to two seconds in every process: a stored library might be of another CPU or another source.
    """
    if get_kernels(head_size, dtype):
        return True
    if head_size % MAX_LANES or dtype not in _ELEMENTS:
        return False
    macros = {
        "HEAD": head_size,
        "ELEMENT": _ELEMENTS[dtype],
        "NORM_EPSILON": f"{NORM_EPSILON}f",
        "MAX_LANES": MAX_LANES,
        "OUT_BLOCK": OUT_BLOCK,
    }
    flags = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC"]
    flags += ["-fno-math-errno"]  # lets whole vectors take a square root: errno is never read
    flags += [f"-D{name}={value}" for name, value in macros.items()]
    if not _kernels:  # a process says it once, also where it needs a second precision
        info("Compiling the C++ kernels, a second or two.")
    with tempfile.TemporaryDirectory() as directory:
        try:
            _kernels[head_size, dtype] = ctypes.CDLL(str(_build(flags, Path(directory))))
        except (OSError, subprocess.CalledProcessError) as error:
            warn(f"the kernels could not be compiled ({error}); attention, loss and samples take longer without them")
            return False
    return True


def _build(flags: list[str], directory: Path) -> Path:
    """Compile the sources side by side and link them. Errors: OSError, CalledProcessError."""

    def run(*arguments: str | Path) -> None:
        subprocess.run([_command(), *flags, *arguments], capture_output=True, check=True)

    objects = [directory / f"{source.stem}.o" for source in _SOURCES]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda source, target: run("-c", source, "-o", target), _SOURCES, objects))
    run("-shared", *objects, "-o", library := directory / "kernels.so")
    return library


def compiler() -> str | None:
    """The first line of the compiler's version; None where there is no compiler."""
    try:
        said = subprocess.run([_command(), "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return next(iter(said.splitlines()), None)


def _command() -> str:
    return os.environ.get("CXX", "g++")


def get_kernels(head_size: int | None, dtype: torch.dtype) -> ctypes.CDLL | None:
    """The library that `compile_kernels` made in this process, or None. `head_size` None: any will do."""
    if head_size:
        return _kernels.get((head_size, dtype))
    return next((library for (_, of), library in _kernels.items() if of == dtype), None)


def data_ptr(tensor: Tensor) -> ctypes.c_void_p:
    """The address of a contiguous tensor's numbers. The caller keeps the tensor alive."""
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())
