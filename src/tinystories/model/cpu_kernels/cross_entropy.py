"""Cross-entropy by cross_entropy.cpp, as an operator of PyTorch: the fast twin of model/cross_entropy.py."""

import ctypes

import torch
from torch import Tensor

from tinystories.model.cpu_kernels import data_ptr, get_kernels


def cross_entropy_inplace(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """The losses, (N,), fp32; the logits become `grad_logits`. Errors: RuntimeError for a target outside of V.

    The fast twin of `model.cross_entropy.losses_and_grad_logits`; only where `compile_kernels` was successful.
    tests/model/test_cross_entropy.py::test_cross_entropy_cpp_equals_fp64 holds them equal.
    """
    losses: Tensor = torch.ops.tinystories.cross_entropy(logits_NV, targets_N)
    return losses


@torch.library.custom_op("tinystories::cross_entropy", mutates_args={"logits"}, device_types="cpu")
def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    outside = (targets < 0) | (targets >= logits.shape[-1])
    if outside.any():
        raise RuntimeError(f"target {targets[outside][0]} is out of bounds for {logits.shape[-1]:,} logits")
    losses = logits.new_empty(targets.shape, dtype=torch.float32)
    kernels = get_kernels(None, logits.dtype)
    assert kernels
    rows, columns = map(ctypes.c_int64, logits.shape)
    kernels.cross_entropy_inplace(data_ptr(logits), data_ptr(targets), rows, columns, data_ptr(losses))
    return losses


@_cross_entropy.register_fake
def _(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.new_empty(targets.shape, dtype=torch.float32)
