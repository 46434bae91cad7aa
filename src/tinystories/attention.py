"""Causal attention, the way that is fastest on each device.

Letters in shapes: B batch, T tokens, H heads, K head size.
"""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tinystories.console import warn

_SOURCE = Path(__file__).with_name("attention.cpp")
_ELEMENTS = {torch.bfloat16: "uint16_t", torch.float32: "float"}
_kernels: dict[tuple[int, torch.dtype], ctypes.CDLL] = {}


def compile_kernel(head_size: int, dtype: torch.dtype) -> bool:
    """Compile attention.cpp for this CPU, so that `attend` uses it from now on; False where that is not possible.

    It takes two seconds and is done in every process anew: a stored one might be of another CPU or another source.
    """
    if (head_size, dtype) in _kernels:
        return True
    if head_size % 16 or dtype not in _ELEMENTS:
        return False
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "attention.so"
        command = [os.environ.get("CXX", "g++"), "-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared"]
        macros = [f"-DHEAD={head_size}", f"-DELEMENT={_ELEMENTS[dtype]}"]
        try:
            subprocess.run([*command, *macros, str(_SOURCE), "-o", str(library)], capture_output=True, check=True)
            _kernels[head_size, dtype] = ctypes.CDLL(str(library))
        except (OSError, subprocess.CalledProcessError) as error:
            warn(f"{_SOURCE.name} could not be compiled ({error}); attention is computed by plain products, slower")
            return False
    return True


def attend(q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor) -> Tensor:
    """Mix the values of the tokens that each one sees: those before it and its own. Shape: (B, T, H, K)."""
    if q_BTHK.device.type == "cpu" and (q_BTHK.shape[-1], q_BTHK.dtype) in _kernels:
        mixed: Tensor = torch.ops.tinystories.causal_attention(q_BTHK, k_BTHK, v_BTHK)[0]
        return mixed
    q, k, v = (x.transpose(1, 2) for x in (q_BTHK, k_BTHK, v_BTHK))
    if q.device.type == "cpu" and q.requires_grad and torch.is_grad_enabled():
        # PyTorch's fused kernel's backward pass on a CPU is several times slower than these plain products.
        hidden = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
        scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.mT
        return (scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v).transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


# As operators of PyTorch's, the kernel's functions can stand in what torch.compile compiles.


@torch.library.custom_op("tinystories::causal_attention", mutates_args=(), device_types="cpu")
def _forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, heads, size = q.shape
    q, k, v = (_inner_contiguous(x) for x in (q, k, v))
    mixed, norms = q.new_empty(q.shape), q.new_empty((batch, heads, length), dtype=torch.float32)
    _kernels[size, q.dtype].forward(*_inputs(q, k, v), _address(mixed), _address(norms))
    return mixed, norms


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((batch, heads, length), dtype=torch.float32)


@torch.library.custom_op("tinystories::causal_attention_backward", mutates_args=(), device_types="cpu")
def _backward(
    q: Tensor, k: Tensor, v: Tensor, mixed: Tensor, norms: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (_inner_contiguous(x) for x in (q, k, v))
    given = (mixed.contiguous(), norms.contiguous(), gradient.contiguous())
    gradients = q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape)
    _kernels[q.shape[-1], q.dtype].backward(*_inputs(q, k, v), *map(_address, (*given, *gradients)))
    return gradients


@_backward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, mixed: Tensor, norms: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _gradients(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.tinystories.causal_attention_backward(
        *ctx.saved_tensors, gradient
    )
    return result


_forward.register_autograd(_gradients, setup_context=_save)


def _inner_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 and x.stride(-2) == x.shape[-1] else x.contiguous()


def _inputs(q: Tensor, k: Tensor, v: Tensor) -> tuple[Any, ...]:
    """The arguments with which both functions of the kernel begin."""
    batch, length, heads, _ = q.shape
    strides = (ctypes.c_int64 * 6)(*(x.stride(dimension) for x in (q, k, v) for dimension in (0, 1)))
    return (*map(_address, (q, k, v)), strides, *map(ctypes.c_int64, (batch, length, heads)))


def _address(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())
