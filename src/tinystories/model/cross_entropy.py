"""Cross-entropy of logits and its gradient in PyTorch's own operations: the readable version.

Its twins are cpu_kernels/cross_entropy.cpp and training/gpu/pointwise.py; `ops` chooses. They name its parts alike.
Letters in shapes: N tokens, V vocabulary.
"""

import torch
from torch import Tensor


def losses(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Each token's cross-entropy in nats, fp32: losses = logsumexp(logits) - target_logits. Shape: (N,)."""
    return _logsumexp(logits_NV) - _target_logits(logits_NV, targets_N)


def losses_and_grad_logits(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """The losses, (N,), and the gradient of each with respect to its own row of logits, (N, V).

        losses[n] = logsumexp(logits[n]) - logits[n, targets[n]]
        grad_logits[n, v] = exp(logits[n, v] - logsumexp(logits[n])) - (1 if v is targets[n] else 0)

    tests/model/test_cross_entropy.py::test_cross_entropy_plain_equals_fp64 holds it to the formula.
    """
    logsumexp = _logsumexp(logits_NV)
    losses = logsumexp - _target_logits(logits_NV, targets_N)
    is_target = torch.arange(logits_NV.shape[-1], device=logits_NV.device) == targets_N[:, None]
    grad_logits = ((logits_NV.float() - logsumexp[:, None]).exp() - is_target.float()).to(logits_NV.dtype)
    return losses, grad_logits


def _logsumexp(logits: Tensor) -> Tensor:
    return logits.float().logsumexp(-1)


def _target_logits(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.gather(-1, targets[:, None]).squeeze(-1).float()
