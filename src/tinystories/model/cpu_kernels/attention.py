"""Attention by attention.cpp, as an operator of PyTorch: the fast twin of model/attention.py.

As an operator, it can stand in what torch.compile compiles. Shapes are those of attention.cpp.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from tinystories.model.cpu_kernels import data_ptr, get_kernels


def qk_norm_rope_attention(qkv_BT3HK: Tensor, qk_norm_weight_2K: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Normalize and rotate queries and keys, then attend causally. Shape: (B, T, H, K).

    The fast twin of `model.attention.qk_norm_rope_attention`; only where `compile_kernels` was successful.
    tests/model/test_attention.py::test_qk_norm_rope_attention_cpp_equals_fp64 holds them equal.
    """
    attn_out: Tensor = torch.ops.tinystories.causal_attention(qkv_BT3HK, qk_norm_weight_2K.float(), cos_TK, sin_TK)[0]
    return attn_out


@torch.library.custom_op("tinystories::causal_attention", mutates_args=(), device_types="cpu")
def _forward(qkv: Tensor, qk_norm_weight: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, _, heads, head_size = qkv.shape
    attn_out = qkv.new_empty((batch, length, heads, head_size))
    lse = qkv.new_empty((batch, heads, length), dtype=torch.float32)
    _call("attention_forward", (qkv, qk_norm_weight, cos, sin), (attn_out, lse))
    return attn_out, lse


@_forward.register_fake
def _(qkv: Tensor, qk_norm_weight: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, _, heads, head_size = qkv.shape
    lse = qkv.new_empty((batch, heads, length), dtype=torch.float32)
    return qkv.new_empty((batch, length, heads, head_size)), lse


@torch.library.custom_op("tinystories::causal_attention_backward", mutates_args=(), device_types="cpu")
def _backward(
    qkv: Tensor, qk_norm_weight: Tensor, cos: Tensor, sin: Tensor, attn_out: Tensor, lse: Tensor, grad_out: Tensor
) -> tuple[Tensor, Tensor]:
    grad_qkv = qkv.new_empty(qkv.shape)
    grad_weight = qk_norm_weight.new_empty((*lse.shape[:2], *qk_norm_weight.shape))  # of each window and head
    outputs = (attn_out, lse, grad_out.contiguous(), grad_qkv, grad_weight)
    _call("attention_backward", (qkv, qk_norm_weight, cos, sin), outputs)
    return grad_qkv, grad_weight.sum((0, 1))


@_backward.register_fake
def _(
    qkv: Tensor, qk_norm_weight: Tensor, cos: Tensor, sin: Tensor, attn_out: Tensor, lse: Tensor, grad_out: Tensor
) -> tuple[Tensor, Tensor]:
    return qkv.new_empty(qkv.shape), qk_norm_weight.new_empty(qk_norm_weight.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _autograd_backward(ctx: Any, grad_out: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
    grad_qkv, grad_weight = torch.ops.tinystories.causal_attention_backward(*ctx.saved_tensors, grad_out)
    return grad_qkv, grad_weight, None, None


_forward.register_autograd(_autograd_backward, setup_context=_setup_context)


def _call(name: str, inputs: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> None:
    """Call a function of attention.cpp: addresses of qkv, weight, cos and sin, the sizes, addresses of the rest.

    Errors: RuntimeError where the weight or the angles do not fit qkv.
    """
    qkv = inputs[0]
    batch, length, _, heads, head_size = qkv.shape
    # The kernel would read beyond their memory.
    for x, shape in zip(inputs[1:], ((2, head_size), (length, head_size), (length, head_size)), strict=True):
        if x.dtype != torch.float32 or x.shape != shape:
            raise RuntimeError(f"weight or angles are {tuple(x.shape)} of {x.dtype}, they should be {shape} of fp32")
    keepalive = [x.contiguous() for x in inputs]  # until the function is done
    sizes = map(ctypes.c_int64, (batch, length, heads))
    getattr(get_kernels(head_size, qkv.dtype), name)(*map(data_ptr, keepalive), *sizes, *map(data_ptr, others))
