"""QK-norm, RoPE and causal attention in PyTorch's own operations: the readable version.

Its twins are cpu_kernels/attention.cpp and training/gpu/attention.py; `ops` chooses. They name its parts alike.
Letters in shapes: B batch, T tokens, H heads, K head size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tinystories.model.norm import norm
from tinystories.model.rope import apply_rope


def qk_norm_rope_attention(qkv_BT3HK: Tensor, qk_norm_weight_2K: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Normalize and rotate queries and keys, then attend causally. Shape: (B, T, H, K).

    For each head, for query t and key s, with `cos` and `sin` (fp32) of each token's position:

        q = apply_rope(norm(q) · qk_norm_weight[0], cos, sin)        QK-norm: Henry et al. 2020, RMSNorm
        k = apply_rope(norm(k) · qk_norm_weight[1], cos, sin)        RoPE: Su et al. 2021
        scores[t, s] = q[t] · k[s] / sqrt(K), where s <= t; -inf beyond: the causal mask
        lse[t] = log(sum of exp(scores[t, s]) over s)
        p[t, s] = exp(scores[t, s] - lse[t])
        attn_out[t] = sum of p[t, s] v[s] over s

    tests/model/test_attention.py::test_qk_norm_rope_attention_plain_equals_fp64 holds it to the formula.
    """
    q, k, v = qkv_BT3HK.unbind(2)
    cos_T1K, sin_T1K = (table[:, None].to(qkv_BT3HK.dtype) for table in (cos_TK, sin_TK))
    q, k = (apply_rope(norm(x, w), cos_T1K, sin_T1K) for x, w in zip((q, k), qk_norm_weight_2K, strict=True))
    return causal_attention(q, k, v)


def causal_attention(q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor) -> Tensor:
    """Attend causally with queries and keys as they are. Shape: (B, T, H, K)."""
    q, k, v = (x.transpose(1, 2) for x in (q_BTHK, k_BTHK, v_BTHK))
    if q.device.type == "cpu" and q.requires_grad and torch.is_grad_enabled():
        # On a CPU, the backward pass of PyTorch's fused attention is several times slower than these products.
        causal_mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
        scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.mT
        return (scores.masked_fill(causal_mask, float("-inf")).softmax(-1) @ v).transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
