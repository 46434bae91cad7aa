"""Causal attention, the way that is fastest on each device.

Letters in shapes: B batch, T tokens, H heads, K head size.
"""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tinystories.model.cpu_kernels import address, get_kernels
from tinystories.model.norm import norm
from tinystories.model.rope import apply_rope


def qk_norm_rope_attention(projected_BT3HK: Tensor, gains_2K: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Mix the values of the tokens that each one sees: those before it and its own. Shape: (B, T, H, K).

    `projected` holds queries, keys and values; queries and keys are normalised and multiplied by their gains (Henry et
    al. 2020), then turned by their position (Su et al. 2021). `cos` and `sin` are fp32.
    """
    if projected_BT3HK.device.type == "cpu" and get_kernels(projected_BT3HK.shape[-1], projected_BT3HK.dtype):
        mixed: Tensor = torch.ops.tinystories.causal_attention(projected_BT3HK, gains_2K.float(), cos_TK, sin_TK)[0]
        return mixed
    q, k, v = projected_BT3HK.unbind(2)
    cos_T1K, sin_T1K = (table[:, None].to(projected_BT3HK.dtype) for table in (cos_TK, sin_TK))
    q, k = (apply_rope(norm(x, gain), cos_T1K, sin_T1K) for x, gain in zip((q, k), gains_2K, strict=True))
    return mix(q, k, v)


def mix(q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor) -> Tensor:
    """Causal attention of queries and keys as they are. Shape: (B, T, H, K)."""
    q, k, v = (x.transpose(1, 2) for x in (q_BTHK, k_BTHK, v_BTHK))
    if q.device.type == "cpu" and q.requires_grad and torch.is_grad_enabled():
        # PyTorch's fused kernel's backward pass on a CPU is several times slower than these plain products.
        hidden = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
        scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.mT
        return (scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v).transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


# As operators of PyTorch's, the kernel's functions can stand in what torch.compile compiles.


@torch.library.custom_op("tinystories::causal_attention", mutates_args=(), device_types="cpu")
def _forward(projected: Tensor, gains: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, _, heads, size = projected.shape
    mixed = projected.new_empty((batch, length, heads, size))
    norms = projected.new_empty((batch, heads, length), dtype=torch.float32)
    _call("forward", projected, (projected, gains, cos, sin), (mixed, norms))
    return mixed, norms


@_forward.register_fake
def _(projected: Tensor, gains: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, _, heads, size = projected.shape
    norms = projected.new_empty((batch, heads, length), dtype=torch.float32)
    return projected.new_empty((batch, length, heads, size)), norms


@torch.library.custom_op("tinystories::causal_attention_backward", mutates_args=(), device_types="cpu")
def _backward(
    projected: Tensor, gains: Tensor, cos: Tensor, sin: Tensor, mixed: Tensor, norms: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    of_projected = projected.new_empty(projected.shape)
    of_gains = gains.new_empty((*norms.shape[:2], *gains.shape))  # of each window and head
    inputs = (projected, gains, cos, sin)
    _call("backward", projected, inputs, (mixed, norms, gradient.contiguous(), of_projected, of_gains))
    return of_projected, of_gains.sum((0, 1))


@_backward.register_fake
def _(
    projected: Tensor, gains: Tensor, cos: Tensor, sin: Tensor, mixed: Tensor, norms: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    return projected.new_empty(projected.shape), gains.new_empty(gains.shape)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _gradients(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
    of_projected, of_gains = torch.ops.tinystories.causal_attention_backward(*ctx.saved_tensors, gradient)
    return of_projected, of_gains, None, None


_forward.register_autograd(_gradients, setup_context=_save)


def _call(name: str, projected: Tensor, inputs: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> None:
    """Call the kernel's function with the addresses of its inputs, the sizes, and the addresses of the rest.

    Errors: RuntimeError where gains and angles do not fit the projection.
    """
    batch, length, _, heads, size = projected.shape
    # The kernel would read beyond their memory.
    for x, shape in zip(inputs[1:], ((2, size), (length, size), (length, size)), strict=True):
        if x.dtype != torch.float32 or x.shape != shape:
            raise RuntimeError(f"gains or angles are {tuple(x.shape)} of {x.dtype}, they should be {shape} of fp32")
    kept = [x.contiguous() for x in inputs]  # alive until the function is done
    sizes = map(ctypes.c_int64, (batch, length, heads))
    function = getattr(get_kernels(size, projected.dtype), name)
    function(*map(address, kept), *sizes, *map(address, others))
