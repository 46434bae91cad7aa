"""The model's operations that are written more than once, and the one place that chooses between the versions.

Letters in shapes: B batch, T tokens, H heads, K head size; N tokens, D embedding, V vocabulary.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tinystories.model import attention
from tinystories.model import cross_entropy as cross_entropy_plain
from tinystories.model.cpu_kernels import attention as attention_cpp
from tinystories.model.cpu_kernels import cross_entropy as cross_entropy_cpp
from tinystories.model.cpu_kernels import get_kernels


def implementation(
    device: torch.device, dtype: torch.dtype, head_size: int | None = None
) -> Literal["plain", "cpp", "triton"]:
    """Choose how to compute. `head_size` is None for what does not depend on it.

    - cpp: the C++ kernels, on a CPU where `compile_kernels` was successful.
    - triton: the Triton kernels, on CUDA in bf16. Only a compiled training step as a whole uses them, where they take
      the model's sizes (training/gpu/step.py); single operations there are PyTorch's.
    - plain: PyTorch's operations.
    """
    if device.type == "cpu" and get_kernels(head_size, dtype):
        return "cpp"
    return "triton" if device.type == "cuda" and dtype == torch.bfloat16 else "plain"


def qk_norm_rope_attention(qkv_BT3HK: Tensor, qk_norm_weight_2K: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Normalize and rotate queries and keys, then attend causally. Shape: (B, T, H, K). The formula: attention.py."""
    chosen = implementation(qkv_BT3HK.device, qkv_BT3HK.dtype, qkv_BT3HK.shape[-1])
    function = (attention_cpp if chosen == "cpp" else attention).qk_norm_rope_attention
    attn_out: Tensor = function(qkv_BT3HK, qk_norm_weight_2K, cos_TK, sin_TK)
    return attn_out


def cross_entropy(x_ND: Tensor, embedding_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Each target's cross-entropy under the logits x · embeddingᵀ, in nats and fp32. Shape: (N,).

    The formula: cross_entropy.py. Errors: RuntimeError for a target outside of V.
    """
    if torch.is_grad_enabled():
        losses: Tensor = _CrossEntropy.apply(x_ND, embedding_VD, targets_N)  # type: ignore[no-untyped-call]
        return losses
    logits = F.linear(x_ND, embedding_VD)
    if implementation(logits.device, logits.dtype) == "cpp":
        return cross_entropy_cpp.cross_entropy_inplace(logits, targets_N)
    return cross_entropy_plain.losses(logits, targets_N)


class _CrossEntropy(torch.autograd.Function):
    """Computes grad_logits together with the losses, as if each loss stood alone.

    The logits are by far the largest tensor of a step. PyTorch's own way reads them again for their gradient, and
    multiplies it with the gradient of the losses; here that is left to the two small tensors, x and its gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
        logits = F.linear(x, embedding)
        if implementation(logits.device, logits.dtype) == "cpp":
            losses, grad_logits = cross_entropy_cpp.cross_entropy_inplace(logits, targets), logits
        else:
            losses, grad_logits = cross_entropy_plain.losses_and_grad_logits(logits, targets)
        ctx.save_for_backward(x, embedding, grad_logits)
        return losses

    @staticmethod
    def backward(ctx: Any, grad_losses: Tensor) -> tuple[Tensor, Tensor, None]:
        x, embedding, grad_logits = ctx.saved_tensors
        grad_x = ((grad_logits @ embedding).float() * grad_losses[:, None]).to(x.dtype)
        grad_embedding = grad_logits.mT @ (x.float() * grad_losses[:, None]).to(x.dtype)
        return grad_x, grad_embedding, None
