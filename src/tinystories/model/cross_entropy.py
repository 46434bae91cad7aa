"""Cross-entropy of the model's last product, the way that is fastest on each device.

Letters in shapes: N tokens, D embedding, V vocabulary.
"""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tinystories.model.cpu_kernels import address, get_kernels


def cross_entropy(x_ND: Tensor, embedding_VD: Tensor, targets_N: Tensor) -> Tensor:
    """How much each target surprises a model whose logits are the product of `x` and `embedding`. Nats; shape: (N,).

    Computed in fp32 whatever the logits are.
    """
    losses: Tensor
    if torch.is_grad_enabled():
        losses = _CrossEntropy.apply(x_ND, embedding_VD, targets_N)  # type: ignore[no-untyped-call]
    elif _has_kernel(logits := F.linear(x_ND, embedding_VD)):
        losses = torch.ops.tinystories.cross_entropy(logits, targets_N)
    else:
        losses = _norms(logits) - _at(logits, targets_N)
    return losses


class _CrossEntropy(torch.autograd.Function):
    """With the gradient computed beside the losses, each as if it stood alone.

    The logits are by far the largest tensor of a step. PyTorch's own way reads them again for their gradient, and
    multiplies it with what comes from the losses' mean; here that is left to the two small tensors.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
        logits = F.linear(x, embedding)
        if _has_kernel(logits):
            losses: Tensor = torch.ops.tinystories.cross_entropy(logits, targets)
            gradients = logits
        else:
            norms = _norms(logits)
            losses = norms - _at(logits, targets)
            is_target = torch.arange(logits.shape[-1], device=logits.device) == targets[:, None]
            gradients = ((logits.float() - norms[:, None]).exp() - is_target.float()).to(logits.dtype)
        ctx.save_for_backward(x, embedding, gradients)
        return losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, embedding, gradients = ctx.saved_tensors
        of_x = ((gradients @ embedding).float() * gradient[:, None]).to(x.dtype)
        of_embedding = gradients.mT @ (x.float() * gradient[:, None]).to(x.dtype)
        return of_x, of_embedding, None


def _has_kernel(logits: Tensor) -> bool:
    return logits.device.type == "cpu" and get_kernels(None, logits.dtype) is not None


def _norms(logits: Tensor) -> Tensor:
    return logits.float().logsumexp(-1)


def _at(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.gather(-1, targets[:, None]).squeeze(-1).float()


@torch.library.custom_op("tinystories::cross_entropy", mutates_args={"logits"}, device_types="cpu")
def _replace(logits: Tensor, targets: Tensor) -> Tensor:
    """The losses; the logits become their gradients. Errors: RuntimeError, as of `gather`: no such target."""
    outside = (targets < 0) | (targets >= logits.shape[-1])
    if outside.any():
        raise RuntimeError(f"target {targets[outside][0]} is out of bounds for {logits.shape[-1]:,} logits")
    losses = logits.new_empty(targets.shape, dtype=torch.float32)
    library = get_kernels(None, logits.dtype)
    assert library
    rows, columns = map(ctypes.c_int64, logits.shape)
    library.cross_entropy(address(logits), address(targets), rows, columns, address(losses))
    return losses


@_replace.register_fake
def _(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.new_empty(targets.shape, dtype=torch.float32)
