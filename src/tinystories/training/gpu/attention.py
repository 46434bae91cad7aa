"""Causal attention of small heads on a GPU, forward and backward, in Triton.

The plain version, with the formula, is `qk_norm_rope_attention` in model/attention.py. As in attention.cpp, one program
reads the queries, keys and values of a head in a window, applies QK-norm and RoPE, and writes `attn_out`; the T x T
scores are never written to memory. The method is that of Dao et al. 2022 (arXiv 2205.14135), simpler because all keys
of a window fit into registers.

Shapes: `qkv` and its gradient (B, T, 3, H, K), `attn_out` and its gradient (B, T, H, K); `lse`, the logsumexp of the
scores, base 2, (B, H, T); `qk_norm_weight` (2, K) and its gradient, for each window and head, (B, H, 2, K); `cos`,
`sin` (T, K).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from tinystories.model.stock_config import NORM_EPSILON

MAX_SEQ_LEN = 128
HEAD_SIZES = (16, 32, 64)
BLOCK_BACKWARD = 64  # queries or keys at a time: all 128 would take every register of a multiprocessor
NUM_WARPS = 2, 4  # of the forward and the backward pass
# With few registers each, more programs fit on a multiprocessor, which gains more than spilling costs.
FEW_REGISTERS = {"maxnreg": 128} if torch.version.cuda else {}
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _load(ptr, tokens, components, stride, seq_len):
    """Load vectors of one head, as fp32; zeros beyond the window. Shape: (tokens, components)."""
    mask = tokens[:, None] < seq_len
    return tl.load(ptr + tokens[:, None] * stride + components[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _store(ptr, x, tokens, components, stride, seq_len):
    ptrs = ptr + tokens[:, None] * stride + components[None, :]
    tl.store(ptrs, x.to(ptr.dtype.element_ty), mask=tokens[:, None] < seq_len)


@triton.jit
def _load_normalized(ptr, tokens, stride, seq_len, HEAD_SIZE: tl.constexpr, EPSILON: tl.constexpr):
    """Load queries or keys over their root mean square, in the two halves that RoPE rotates; and 1 over the root."""
    half = tl.arange(0, HEAD_SIZE // 2)
    left, right = _load(ptr, tokens, half, stride, seq_len), _load(ptr + HEAD_SIZE // 2, tokens, half, stride, seq_len)
    rstd = tl.rsqrt((tl.sum(left * left, axis=1) + tl.sum(right * right, axis=1)) / HEAD_SIZE + EPSILON)[:, None]
    return left * rstd, right * rstd, rstd


@triton.jit
def _load_weight(ptr, HEAD_SIZE: tl.constexpr):
    half = tl.arange(0, HEAD_SIZE // 2)
    return tl.load(ptr + half)[None, :], tl.load(ptr + HEAD_SIZE // 2 + half)[None, :]


@triton.jit
def _apply_rope(left, right, weight_ptr, cos, sin, tokens, seq_len, HEAD_SIZE: tl.constexpr):
    """Multiply by the norm's weight, and rotate. The components of a pair become neighbours, because the order of
    components makes no difference to a product of queries and keys."""
    left_weight, right_weight = _load_weight(weight_ptr, HEAD_SIZE)
    a, b = left * left_weight, right * right_weight
    half = tl.arange(0, HEAD_SIZE // 2)
    x, y = _load(cos, tokens, half, HEAD_SIZE, seq_len), _load(sin, tokens, half, HEAD_SIZE, seq_len)
    return tl.reshape(tl.join(a * x - b * y, b * x + a * y), (left.shape[0], HEAD_SIZE))


@triton.jit
def _apply_rope_backward(
    grad, ptr, weight_ptr, cos, sin, grad_ptr, grad_weight_ptr, ACCUMULATE: tl.constexpr, tokens, stride, seq_len,
    HEAD_SIZE: tl.constexpr, EPSILON: tl.constexpr,
):  # fmt: skip
    """Write the gradient of queries or keys before norm and RoPE, and write or add the gradient of the weight."""
    half = tl.arange(0, HEAD_SIZE // 2)
    # Loaded again, because there are too few registers to keep them.
    left, right, rstd = _load_normalized(ptr, tokens, stride, seq_len, HEAD_SIZE, EPSILON)
    a, b = tl.split(tl.reshape(grad, (left.shape[0], HEAD_SIZE // 2, 2)))
    x, y = _load(cos, tokens, half, HEAD_SIZE, seq_len), _load(sin, tokens, half, HEAD_SIZE, seq_len)
    a, b = a * x + b * y, b * x - a * y
    grad_left_weight, grad_right_weight = tl.sum(a * left, axis=0), tl.sum(b * right, axis=0)
    if ACCUMULATE:
        tl.debug_barrier()  # written by other threads than those that read it
        grad_left_weight += tl.load(grad_weight_ptr + half)
        grad_right_weight += tl.load(grad_weight_ptr + HEAD_SIZE // 2 + half)
    tl.store(grad_weight_ptr + half, grad_left_weight)
    tl.store(grad_weight_ptr + HEAD_SIZE // 2 + half, grad_right_weight)
    left_weight, right_weight = _load_weight(weight_ptr, HEAD_SIZE)
    a, b = a * left_weight, b * right_weight
    delta = ((tl.sum(a * left, axis=1) + tl.sum(b * right, axis=1)) / HEAD_SIZE)[:, None]
    _store(grad_ptr, rstd * (a - left * delta), tokens, half, stride, seq_len)
    _store(grad_ptr + HEAD_SIZE // 2, rstd * (b - right * delta), tokens, half, stride, seq_len)


@triton.jit
def _forward(
    qkv, qk_norm_weight, cos, sin, attn_out, lse,
    seq_len, HEADS: tl.constexpr, HEAD_SIZE: tl.constexpr, BLOCK_SEQ: tl.constexpr, EPSILON: tl.constexpr,
):  # fmt: skip
    window, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    WIDTH: tl.constexpr = HEADS * HEAD_SIZE
    dtype: tl.constexpr = qkv.dtype.element_ty
    tokens, components = tl.arange(0, BLOCK_SEQ), tl.arange(0, HEAD_SIZE)
    q_ptr = qkv + window * seq_len * 3 * WIDTH + head * HEAD_SIZE
    left, right, _ = _load_normalized(q_ptr, tokens, 3 * WIDTH, seq_len, HEAD_SIZE, EPSILON)
    q = _apply_rope(left, right, qk_norm_weight, cos, sin, tokens, seq_len, HEAD_SIZE) * (LOG2_E / HEAD_SIZE**0.5)
    left, right, _ = _load_normalized(q_ptr + WIDTH, tokens, 3 * WIDTH, seq_len, HEAD_SIZE, EPSILON)
    k = _apply_rope(left, right, qk_norm_weight + HEAD_SIZE, cos, sin, tokens, seq_len, HEAD_SIZE)
    v = _load(q_ptr + 2 * WIDTH, tokens, components, 3 * WIDTH, seq_len)

    scores = tl.dot(q.to(dtype), tl.trans(k.to(dtype)))
    scores = tl.where(tokens[:, None] >= tokens[None, :], scores, float("-inf"))
    row_max = tl.max(scores, axis=1)
    p = tl.exp2(scores - row_max[:, None])
    row_sum = tl.sum(p, axis=1)
    out = tl.dot(p.to(dtype), v.to(dtype)) / row_sum[:, None]
    _store(attn_out + window * seq_len * WIDTH + head * HEAD_SIZE, out, tokens, components, WIDTH, seq_len)
    tl.store(lse + tl.program_id(0) * seq_len + tokens, row_max + tl.log2(row_sum), mask=tokens < seq_len)


@triton.jit
def _load_queries(
    q_ptr, qk_norm_weight, cos, sin, out_ptr, grad_out_ptr, lse_ptr, tokens, width, seq_len, HEAD_SIZE: tl.constexpr,
    EPSILON: tl.constexpr,
):  # fmt: skip
    """Load queries after norm and RoPE, the gradient of their outputs, its product with the outputs, and the lse."""
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    left, right, _ = _load_normalized(q_ptr, tokens, 3 * width, seq_len, HEAD_SIZE, EPSILON)
    q = _apply_rope(left, right, qk_norm_weight, cos, sin, tokens, seq_len, HEAD_SIZE).to(dtype)
    components = tl.arange(0, HEAD_SIZE)
    grad_out = _load(grad_out_ptr, tokens, components, width, seq_len)
    delta = tl.sum(grad_out * _load(out_ptr, tokens, components, width, seq_len), axis=1)
    return q, grad_out.to(dtype), delta, tl.load(lse_ptr + tokens, mask=tokens < seq_len, other=0.0)


@triton.jit
def _load_keys(
    q_ptr, qk_norm_weight, cos, sin, tokens, width, seq_len, HEAD_SIZE: tl.constexpr, EPSILON: tl.constexpr
):  # fmt: skip
    """Load keys after norm and RoPE, and values."""
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    left, right, _ = _load_normalized(q_ptr + width, tokens, 3 * width, seq_len, HEAD_SIZE, EPSILON)
    k = _apply_rope(left, right, qk_norm_weight + HEAD_SIZE, cos, sin, tokens, seq_len, HEAD_SIZE).to(dtype)
    return k, _load(q_ptr + 2 * width, tokens, tl.arange(0, HEAD_SIZE), 3 * width, seq_len).to(dtype)


@triton.jit
def _bwd_tile(
    q, grad_out, delta, lse, k, v, grad_q, grad_k, grad_v, SCALE: tl.constexpr, ALL_VISIBLE: tl.constexpr
):  # fmt: skip
    """Add what one tile of queries and one of keys contribute to the gradients; those of q and k are to be multiplied
    by SCALE.

    Keys are rows and queries columns: two of the three products then have their operands in registers already.
    """
    scores = tl.dot(k, tl.trans(q)) * (SCALE * LOG2_E) - lse[None, :]
    if not ALL_VISIBLE:
        offs = tl.arange(0, q.shape[0])
        scores = tl.where(offs[None, :] >= offs[:, None], scores, float("-inf"))
    p = tl.exp2(scores)
    grad_v = tl.dot(p.to(q.dtype), grad_out, grad_v)
    grad_scores = (p * (tl.dot(v, tl.trans(grad_out)) - delta[None, :])).to(q.dtype)
    grad_k = tl.dot(grad_scores, q, grad_k)
    grad_q = tl.dot(tl.trans(grad_scores), k, grad_q)
    return grad_q, grad_k, grad_v


@triton.jit
def _backward(
    qkv, qk_norm_weight, cos, sin, attn_out, lse, grad_out, grad_qkv, grad_weight, seq_len, HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr, BLOCK: tl.constexpr, TWO_BLOCKS: tl.constexpr, EPSILON: tl.constexpr,
):  # fmt: skip
    window, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    WIDTH: tl.constexpr = HEADS * HEAD_SIZE
    SCALE: tl.constexpr = 1.0 / HEAD_SIZE**0.5
    offset, out_offset = window * seq_len * 3 * WIDTH + head * HEAD_SIZE, window * seq_len * WIDTH + head * HEAD_SIZE
    q_ptr, grad_q_ptr, grad_weight_ptr = qkv + offset, grad_qkv + offset, grad_weight + tl.program_id(0) * 2 * HEAD_SIZE
    out_ptr, grad_out_ptr, lse_ptr = attn_out + out_offset, grad_out + out_offset, lse + tl.program_id(0) * seq_len
    lo, components = tl.arange(0, BLOCK), tl.arange(0, HEAD_SIZE)
    zeros = tl.zeros((BLOCK, HEAD_SIZE), tl.float32)

    if TWO_BLOCKS:  # the keys of the second are visible to its own queries alone
        hi = BLOCK + lo
        q, grad_o, delta, q_lse = _load_queries(q_ptr, qk_norm_weight, cos, sin, out_ptr, grad_out_ptr, lse_ptr, hi,
                                                WIDTH, seq_len, HEAD_SIZE, EPSILON)  # fmt: skip
        k, v = _load_keys(q_ptr, qk_norm_weight, cos, sin, hi, WIDTH, seq_len, HEAD_SIZE, EPSILON)
        grad_q, grad_k, grad_v = _bwd_tile(q, grad_o, delta, q_lse, k, v, zeros, zeros, zeros, SCALE, False)
        _store(grad_q_ptr + 2 * WIDTH, grad_v, hi, components, 3 * WIDTH, seq_len)
        _apply_rope_backward(grad_k * SCALE, q_ptr + WIDTH, qk_norm_weight + HEAD_SIZE, cos, sin, grad_q_ptr + WIDTH,
                             grad_weight_ptr + HEAD_SIZE, False, hi, 3 * WIDTH, seq_len, HEAD_SIZE,
                             EPSILON)  # fmt: skip
        k, v = _load_keys(q_ptr, qk_norm_weight, cos, sin, lo, WIDTH, seq_len, HEAD_SIZE, EPSILON)
        grad_q, grad_k, grad_v = _bwd_tile(q, grad_o, delta, q_lse, k, v, grad_q, zeros, zeros, SCALE, True)
        _apply_rope_backward(grad_q * SCALE, q_ptr, qk_norm_weight, cos, sin, grad_q_ptr, grad_weight_ptr, False, hi,
                             3 * WIDTH, seq_len, HEAD_SIZE, EPSILON)  # fmt: skip
    else:
        k, v = _load_keys(q_ptr, qk_norm_weight, cos, sin, lo, WIDTH, seq_len, HEAD_SIZE, EPSILON)
        grad_k, grad_v = zeros, zeros
    q, grad_o, delta, q_lse = _load_queries(q_ptr, qk_norm_weight, cos, sin, out_ptr, grad_out_ptr, lse_ptr, lo, WIDTH,
                                            seq_len, HEAD_SIZE, EPSILON)  # fmt: skip
    grad_q, grad_k, grad_v = _bwd_tile(q, grad_o, delta, q_lse, k, v, zeros, grad_k, grad_v, SCALE, False)
    _store(grad_q_ptr + 2 * WIDTH, grad_v, lo, components, 3 * WIDTH, seq_len)
    _apply_rope_backward(grad_k * SCALE, q_ptr + WIDTH, qk_norm_weight + HEAD_SIZE, cos, sin, grad_q_ptr + WIDTH,
                         grad_weight_ptr + HEAD_SIZE, TWO_BLOCKS, lo, 3 * WIDTH, seq_len, HEAD_SIZE,
                         EPSILON)  # fmt: skip
    _apply_rope_backward(grad_q * SCALE, q_ptr, qk_norm_weight, cos, sin, grad_q_ptr, grad_weight_ptr, TWO_BLOCKS, lo,
                         3 * WIDTH, seq_len, HEAD_SIZE, EPSILON)  # fmt: skip


def is_supported(seq_len: int, head_size: int, dtype: torch.dtype) -> bool:
    """Return whether the kernels are made for such windows and heads."""
    return seq_len <= MAX_SEQ_LEN and head_size in HEAD_SIZES and dtype == torch.bfloat16


def forward(qkv: Tensor, qk_norm_weight: Tensor, cos: Tensor, sin: Tensor, attn_out: Tensor, lse: Tensor) -> None:
    """Write `attn_out` and `lse`."""
    batch, seq_len, _, heads, head_size = qkv.shape
    block = max(triton.next_power_of_2(seq_len), 16)
    _forward[(batch * heads,)](
        qkv, qk_norm_weight, cos, sin, attn_out, lse, seq_len, heads, head_size, block, NORM_EPSILON,
        num_warps=NUM_WARPS[0],
    )  # fmt: skip


def backward(
    qkv: Tensor, qk_norm_weight: Tensor, cos: Tensor, sin: Tensor, attn_out: Tensor, lse: Tensor, grad_out: Tensor,
    grad_qkv: Tensor, grad_weight: Tensor,
) -> None:  # fmt: skip
    """Write the gradients of `qkv` and `qk_norm_weight`."""
    batch, seq_len, _, heads, head_size = qkv.shape
    block = max(triton.next_power_of_2(seq_len), 16)
    _backward[(batch * heads,)](
        qkv, qk_norm_weight, cos, sin, attn_out, lse, grad_out, grad_qkv, grad_weight, seq_len, heads, head_size,
        min(block, BLOCK_BACKWARD), block > BLOCK_BACKWARD, NORM_EPSILON, num_warps=NUM_WARPS[1], **FEW_REGISTERS,
    )  # fmt: skip
