"""Causal attention of small heads on a GPU, forward and backward, in Triton.

As in attention.cpp, what a head of a window needs stays on the chip: one program reads a head's queries, keys and
values, normalises and turns them, and writes what is mixed; the scores, T x T, are never written to memory. The method
is that of Dao et al. 2022 (arXiv 2205.14135), made simpler by windows of which all keys fit into registers.

Shapes as in attention.py: `projected` and its gradient (B, T, 3, H, K), `mixed` and its gradient (B, T, H, K); `lse`,
base 2, (B, H, T); `gains` (2, K) and their gradient, of each window and head, (B, H, 2, K); `cos`, `sin` (T, K).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from tinystories.model.norm import NORM_EPSILON

LONGEST = 128
HEAD_SIZES = (16, 32, 64)
TILE = 64  # queries or keys at a time in the backward pass: all 128 would take every register of a multiprocessor
WARPS = 2, 4  # of the forward and the backward pass
# With few registers for each, more programs fit on a multiprocessor than it costs to put some numbers aside.
FEW_REGISTERS = {"maxnreg": 128} if torch.version.cuda else {}
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _read(at, tokens, components, stride, length):
    """Vectors of one head, as fp32; zeros beyond the window. Shape: (tokens, components)."""
    there = tokens[:, None] < length
    return tl.load(at + tokens[:, None] * stride + components[None, :], mask=there, other=0.0).to(tl.float32)


@triton.jit
def _write(at, x, tokens, components, stride, length):
    to = at + tokens[:, None] * stride + components[None, :]
    tl.store(to, x.to(at.dtype.element_ty), mask=tokens[:, None] < length)


@triton.jit
def _normalise(at, tokens, stride, length, size: tl.constexpr, epsilon: tl.constexpr):
    """Queries or keys over their root mean square, in halves, for those are what is turned; and one over the root."""
    half = tl.arange(0, size // 2)
    left, right = _read(at, tokens, half, stride, length), _read(at + size // 2, tokens, half, stride, length)
    scale = tl.rsqrt((tl.sum(left * left, axis=1) + tl.sum(right * right, axis=1)) / size + epsilon)[:, None]
    return left * scale, right * scale, scale


@triton.jit
def _gain(at, size: tl.constexpr):
    half = tl.arange(0, size // 2)
    return tl.load(at + half)[None, :], tl.load(at + size // 2 + half)[None, :]


@triton.jit
def _turn(left, right, gain_at, cos, sin, tokens, length, size: tl.constexpr):
    """Times their gain, and turned. The two components of a pair come to lie side by side: in a product of queries and
    keys it is all the same where components lie."""
    left_gain, right_gain = _gain(gain_at, size)
    a, b = left * left_gain, right * right_gain
    half = tl.arange(0, size // 2)
    x, y = _read(cos, tokens, half, size, length), _read(sin, tokens, half, size, length)
    return tl.reshape(tl.join(a * x - b * y, b * x + a * y), (left.shape[0], size))


@triton.jit
def _turn_back(
    gradient, at, gain_at, cos, sin, to, of_gain_at, adds: tl.constexpr, tokens, stride, length, size: tl.constexpr,
    epsilon: tl.constexpr,
):  # fmt: skip
    """Write the gradient of queries or keys as they were read, and that of the gain, to which it `adds`."""
    half = tl.arange(0, size // 2)
    # Read again, for there are too few registers to keep them.
    left, right, scale = _normalise(at, tokens, stride, length, size, epsilon)
    a, b = tl.split(tl.reshape(gradient, (left.shape[0], size // 2, 2)))
    x, y = _read(cos, tokens, half, size, length), _read(sin, tokens, half, size, length)
    a, b = a * x + b * y, b * x - a * y
    of_left_gain, of_right_gain = tl.sum(a * left, axis=0), tl.sum(b * right, axis=0)
    if adds:
        tl.debug_barrier()  # written by other threads than now read it
        of_left_gain += tl.load(of_gain_at + half)
        of_right_gain += tl.load(of_gain_at + size // 2 + half)
    tl.store(of_gain_at + half, of_left_gain)
    tl.store(of_gain_at + size // 2 + half, of_right_gain)
    left_gain, right_gain = _gain(gain_at, size)
    a, b = a * left_gain, b * right_gain
    along = ((tl.sum(a * left, axis=1) + tl.sum(b * right, axis=1)) / size)[:, None]
    _write(to, scale * (a - left * along), tokens, half, stride, length)
    _write(to + size // 2, scale * (b - right * along), tokens, half, stride, length)


@triton.jit
def _forward(
    projected, gains, cos, sin, mixed, lse,
    length, heads: tl.constexpr, size: tl.constexpr, block: tl.constexpr, epsilon: tl.constexpr,
):  # fmt: skip
    window, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    width: tl.constexpr = heads * size
    dtype: tl.constexpr = projected.dtype.element_ty
    tokens, components = tl.arange(0, block), tl.arange(0, size)
    at = projected + window * length * 3 * width + head * size
    left, right, _ = _normalise(at, tokens, 3 * width, length, size, epsilon)
    q = _turn(left, right, gains, cos, sin, tokens, length, size) * (LOG2_E / size**0.5)
    left, right, _ = _normalise(at + width, tokens, 3 * width, length, size, epsilon)
    k = _turn(left, right, gains + size, cos, sin, tokens, length, size)
    v = _read(at + 2 * width, tokens, components, 3 * width, length)

    scores = tl.dot(q.to(dtype), tl.trans(k.to(dtype)))
    scores = tl.where(tokens[:, None] >= tokens[None, :], scores, float("-inf"))
    largest = tl.max(scores, axis=1)
    shares = tl.exp2(scores - largest[:, None])
    total = tl.sum(shares, axis=1)
    result = tl.dot(shares.to(dtype), v.to(dtype)) / total[:, None]
    _write(mixed + window * length * width + head * size, result, tokens, components, width, length)
    tl.store(lse + tl.program_id(0) * length + tokens, largest + tl.log2(total), mask=tokens < length)


@triton.jit
def _queries(
    at, gains, cos, sin, mixed_at, gradient_at, lse, tokens, width, length, size: tl.constexpr, epsilon: tl.constexpr
):
    """Turned queries, the gradient of what they mixed, its product with what they mixed, and their sums' logarithms."""
    dtype: tl.constexpr = at.dtype.element_ty
    left, right, _ = _normalise(at, tokens, 3 * width, length, size, epsilon)
    q = _turn(left, right, gains, cos, sin, tokens, length, size).to(dtype)
    components = tl.arange(0, size)
    of_mixed = _read(gradient_at, tokens, components, width, length)
    along = tl.sum(of_mixed * _read(mixed_at, tokens, components, width, length), axis=1)
    return q, of_mixed.to(dtype), along, tl.load(lse + tokens, mask=tokens < length, other=0.0)


@triton.jit
def _keys(at, gains, cos, sin, tokens, width, length, size: tl.constexpr, epsilon: tl.constexpr):
    """Turned keys, and values."""
    dtype: tl.constexpr = at.dtype.element_ty
    left, right, _ = _normalise(at + width, tokens, 3 * width, length, size, epsilon)
    k = _turn(left, right, gains + size, cos, sin, tokens, length, size).to(dtype)
    return k, _read(at + 2 * width, tokens, tl.arange(0, size), 3 * width, length).to(dtype)


@triton.jit
def _pair(q, of_mixed, along, norms, k, v, of_q, of_k, of_v, factor: tl.constexpr, all_seen: tl.constexpr):
    """Add to the gradients what one tile of queries has to do with one of keys; those of q and k times `factor`.

    Keys stand in rows, queries in columns: so two of the three products have what they multiply in registers already.
    """
    scores = tl.dot(k, tl.trans(q)) * (factor * LOG2_E) - norms[None, :]
    if not all_seen:
        place = tl.arange(0, q.shape[0])
        scores = tl.where(place[None, :] >= place[:, None], scores, float("-inf"))
    shares = tl.exp2(scores)
    of_v = tl.dot(shares.to(q.dtype), of_mixed, of_v)
    of_scores = (shares * (tl.dot(v, tl.trans(of_mixed)) - along[None, :])).to(q.dtype)
    of_k = tl.dot(of_scores, q, of_k)
    of_q = tl.dot(tl.trans(of_scores), k, of_q)
    return of_q, of_k, of_v


@triton.jit
def _backward(
    projected, gains, cos, sin, mixed, lse, gradient, of_projected, of_gains, length, heads: tl.constexpr,
    size: tl.constexpr, tile: tl.constexpr, two: tl.constexpr, epsilon: tl.constexpr,
):  # fmt: skip
    window, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    width: tl.constexpr = heads * size
    factor: tl.constexpr = 1.0 / size**0.5
    offset, mixed_offset = window * length * 3 * width + head * size, window * length * width + head * size
    at, to, of_gain_at = projected + offset, of_projected + offset, of_gains + tl.program_id(0) * 2 * size
    mixed_at, gradient_at, lse_at = mixed + mixed_offset, gradient + mixed_offset, lse + tl.program_id(0) * length
    early, components = tl.arange(0, tile), tl.arange(0, size)
    nothing = tl.zeros((tile, size), tl.float32)

    if two:  # tiles: the later keys are seen by the later queries alone
        late = tile + early
        q, of_mixed, along, norms = _queries(at, gains, cos, sin, mixed_at, gradient_at, lse_at, late, width, length,
                                             size, epsilon)  # fmt: skip
        k, v = _keys(at, gains, cos, sin, late, width, length, size, epsilon)
        of_q, of_k, of_v = _pair(q, of_mixed, along, norms, k, v, nothing, nothing, nothing, factor, False)
        _write(to + 2 * width, of_v, late, components, 3 * width, length)
        _turn_back(of_k * factor, at + width, gains + size, cos, sin, to + width, of_gain_at + size, False, late,
                   3 * width, length, size, epsilon)  # fmt: skip
        k, v = _keys(at, gains, cos, sin, early, width, length, size, epsilon)
        of_q, of_k, of_v = _pair(q, of_mixed, along, norms, k, v, of_q, nothing, nothing, factor, True)
        _turn_back(of_q * factor, at, gains, cos, sin, to, of_gain_at, False, late, 3 * width, length, size, epsilon)
    else:
        k, v = _keys(at, gains, cos, sin, early, width, length, size, epsilon)
        of_k, of_v = nothing, nothing
    q, of_mixed, along, norms = _queries(at, gains, cos, sin, mixed_at, gradient_at, lse_at, early, width, length,
                                         size, epsilon)  # fmt: skip
    of_q, of_k, of_v = _pair(q, of_mixed, along, norms, k, v, nothing, of_k, of_v, factor, False)
    _write(to + 2 * width, of_v, early, components, 3 * width, length)
    _turn_back(of_k * factor, at + width, gains + size, cos, sin, to + width, of_gain_at + size, two, early, 3 * width,
               length, size, epsilon)  # fmt: skip
    _turn_back(of_q * factor, at, gains, cos, sin, to, of_gain_at, two, early, 3 * width, length, size, epsilon)


def fits(length: int, size: int, dtype: torch.dtype) -> bool:
    """Whether the kernels are made for such windows and heads."""
    return length <= LONGEST and size in HEAD_SIZES and dtype == torch.bfloat16


def forward(projected: Tensor, gains: Tensor, cos: Tensor, sin: Tensor, mixed: Tensor, lse: Tensor) -> None:
    """Write `mixed` and `lse`."""
    batch, length, _, heads, size = projected.shape
    block = max(triton.next_power_of_2(length), 16)
    _forward[(batch * heads,)](
        projected, gains, cos, sin, mixed, lse, length, heads, size, block, NORM_EPSILON, num_warps=WARPS[0]
    )


def backward(
    projected: Tensor, gains: Tensor, cos: Tensor, sin: Tensor, mixed: Tensor, lse: Tensor, gradient: Tensor,
    of_projected: Tensor, of_gains: Tensor,
) -> None:  # fmt: skip
    """Write the gradients `of_projected` and `of_gains`."""
    batch, length, _, heads, size = projected.shape
    block = max(triton.next_power_of_2(length), 16)
    _backward[(batch * heads,)](
        projected, gains, cos, sin, mixed, lse, gradient, of_projected, of_gains, length, heads, size,
        min(block, TILE), block > TILE, NORM_EPSILON, num_warps=WARPS[1], **FEW_REGISTERS,
    )  # fmt: skip
