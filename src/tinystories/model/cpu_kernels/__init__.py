"""Functions in C++ for what PyTorch computes too slowly on a CPU: attention and loss in training, writing texts."""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from tinystories.common.console import warn
from tinystories.model.norm import NORM_EPSILON

LANES = 16  # numbers in the longest vector of vectors.h
_SOURCES = [Path(__file__).with_name(name) for name in ("attention.cpp", "cross_entropy.cpp", "decoder.cpp")]
_ELEMENTS = {torch.bfloat16: "uint16_t", torch.float32: "float"}
_kernels: dict[tuple[int, torch.dtype], ctypes.CDLL] = {}


def compile_kernels(head_size: int, dtype: torch.dtype) -> bool:
    """Compile them for this CPU, so that they are used from now on; False where that is not possible.

    It takes two seconds and is done in every process anew: a stored one might be of another CPU or another source.
    """
    if get_kernels(head_size, dtype):
        return True
    if head_size % LANES or dtype not in _ELEMENTS:
        return False
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "kernels.so"
        command = [_command(), "-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared"]
        command += ["-fno-math-errno"]  # square roots of whole vectors, as nobody asks for errno
        macros = [f"-DHEAD={head_size}", f"-DELEMENT={_ELEMENTS[dtype]}", f"-DEPSILON={NORM_EPSILON}f"]
        try:
            subprocess.run(
                [*command, *macros, *map(str, _SOURCES), "-o", str(library)], capture_output=True, check=True
            )
            _kernels[head_size, dtype] = ctypes.CDLL(str(library))
        except (OSError, subprocess.CalledProcessError) as error:
            warn(f"the kernels could not be compiled ({error}); attention, loss and samples take longer without them")
            return False
    return True


def compiler() -> str | None:
    """The first line of what the compiler says of its version; None where there is no compiler."""
    try:
        said = subprocess.run([_command(), "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return next(iter(said.splitlines()), None)


def _command() -> str:
    return os.environ.get("CXX", "g++")


def get_kernels(head_size: int | None, dtype: torch.dtype) -> ctypes.CDLL | None:
    """What `compile_kernels` has compiled in this process; None as head size where any will do."""
    if head_size:
        return _kernels.get((head_size, dtype))
    return next((library for (_, of), library in _kernels.items() if of == dtype), None)


def address(tensor: Tensor) -> ctypes.c_void_p:
    """Where its numbers lie, one after the other. Whoever asks keeps the tensor alive."""
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())
