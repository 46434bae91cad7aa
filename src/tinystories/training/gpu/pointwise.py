"""What stands between the matrix products of a training step on a GPU, in Triton: one pass over memory for each.

N rows of D or F columns are the tokens of a batch. Tensors of the computation are bf16, sums are fp32.
"""

import triton
import triton.language as tl
from torch import Tensor

from tinystories.model.norm import NORM_EPSILON

# How much a program does at a time: the fastest on an H200 of those that were tried (docs/log.md).
ROWS = 4, 8  # of a norm, forward and backward
PARTS = 512  # of a norm's backward pass, and as many parts does the gradient of its gain come in
ELEMENTS = 1024  # of SwiGLU
COLUMNS = 2048  # of the logits
SUMMED = 64, 32  # parts and columns
GATHERED = 16  # rows of tokens


@triton.jit
def _norm_forward(
    x, change, gain, total, normed, count, width, adds: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
    epsilon: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0) * rows + tl.arange(0, rows), tl.arange(0, columns)
    at = row[:, None] * width + column[None, :]
    inside = (row < count)[:, None] & (column < width)[None, :]
    value = tl.load(x + at, mask=inside, other=0.0)
    if adds:
        value = (value.to(tl.float32) + tl.load(change + at, mask=inside, other=0.0)).to(x.dtype.element_ty)
        tl.store(total + at, value, mask=inside)
    value = value.to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, axis=1) / width + epsilon)[:, None]
    gains = tl.load(gain + column, mask=column < width, other=0.0)[None, :]
    tl.store(normed + at, (value * scale * gains).to(x.dtype.element_ty), mask=inside)


@triton.jit
def _norm_backward(
    x, gain, gradient, beside, of_x, of_gain, count, width, turns: tl.constexpr, adds: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, epsilon: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, columns)
    there = column < width
    gains = tl.load(gain + column, mask=there, other=0.0)[None, :]
    of_gains = tl.zeros((rows, columns), tl.float32)
    for turn in range(turns):
        row = (turn * tl.num_programs(0) + tl.program_id(0)) * rows + tl.arange(0, rows)
        at = row[:, None] * width + column[None, :]
        inside = (row < count)[:, None] & there[None, :]
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        change = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(value * value, axis=1) / width + epsilon)[:, None]
        value *= scale
        of_gains += change * value
        change *= gains
        result = scale * (change - value * (tl.sum(change * value, axis=1) / width)[:, None])
        if adds:
            result += tl.load(beside + at, mask=inside, other=0.0)
        tl.store(of_x + at, result.to(of_x.dtype.element_ty), mask=inside)
    tl.store(of_gain + tl.program_id(0) * width + column, tl.sum(of_gains, axis=0), mask=there)


@triton.jit
def _swiglu_forward(projected, hidden, count, width: tl.constexpr, elements: tl.constexpr):
    index = tl.program_id(0) * elements + tl.arange(0, elements)
    there = index < count
    at = projected + index // width * (2 * width) + index % width
    gate, up = tl.load(at, mask=there).to(tl.float32), tl.load(at + width, mask=there).to(tl.float32)
    tl.store(hidden + index, (gate * tl.sigmoid(gate) * up).to(hidden.dtype.element_ty), mask=there)


@triton.jit
def _swiglu_backward(projected, gradient, of_projected, count, width: tl.constexpr, elements: tl.constexpr):
    index = tl.program_id(0) * elements + tl.arange(0, elements)
    there = index < count
    at = index // width * (2 * width) + index % width
    gate = tl.load(projected + at, mask=there).to(tl.float32)
    up = tl.load(projected + at + width, mask=there).to(tl.float32)
    change = tl.load(gradient + index, mask=there).to(tl.float32)
    share = tl.sigmoid(gate)
    of_gate = change * up * share * (1 + gate * (1 - share))
    tl.store(of_projected + at, of_gate.to(of_projected.dtype.element_ty), mask=there)
    tl.store(of_projected + at + width, (change * gate * share).to(of_projected.dtype.element_ty), mask=there)


@triton.jit
def _cross_entropy(logits, targets, losses, factor, vocabulary: tl.constexpr, columns: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = logits + row * vocabulary
    target = tl.load(targets + row)
    # Three times over a row: it is still in the cache, and each exponential of the sum is computed once.
    largest = tl.full((columns,), float("-inf"), tl.float32)
    for first in range(0, vocabulary, columns):
        column = first + tl.arange(0, columns)
        value = tl.load(at + column, mask=column < vocabulary, other=float("-inf")).to(tl.float32)
        largest = tl.maximum(largest, value)
    norm = tl.max(largest, axis=0)
    total = tl.zeros((columns,), tl.float32)
    for first in range(0, vocabulary, columns):
        column = first + tl.arange(0, columns)
        value = tl.load(at + column, mask=column < vocabulary, other=float("-inf")).to(tl.float32)
        total += tl.exp(value - norm)
    norm += tl.log(tl.sum(total, axis=0))
    tl.store(losses + row, norm - tl.load(at + target).to(tl.float32))
    tl.debug_barrier()  # the target's logit is read before it is written over
    for first in range(0, vocabulary, columns):
        column = first + tl.arange(0, columns)
        value = tl.load(at + column, mask=column < vocabulary, other=float("-inf")).to(tl.float32)
        change = (tl.exp(value - norm) - tl.where(column == target, 1.0, 0.0)) * factor
        tl.store(at + column, change.to(logits.dtype.element_ty), mask=column < vocabulary)


@triton.jit
def _sum_parts(parts, total, count: tl.constexpr, width, rows: tl.constexpr, columns: tl.constexpr):
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    there = column < width
    result = tl.zeros((rows, columns), tl.float32)
    for first in range(0, count, rows):
        row = first + tl.arange(0, rows)
        at = (tl.program_id(0) * count + row[:, None]) * width + column[None, :]
        result += tl.load(parts + at, mask=(row < count)[:, None] & there[None, :], other=0.0)
    tl.store(total + tl.program_id(0) * width + column, tl.sum(result, axis=0), mask=there)


@triton.jit
def _add_rows(table, rows, order, starts, width, gathered: tl.constexpr, columns: tl.constexpr):
    first, end = tl.load(starts + tl.program_id(0)), tl.load(starts + tl.program_id(0) + 1)
    column = tl.arange(0, columns)
    there = column < width
    total = tl.zeros((gathered, columns), tl.float32)
    if first < end:
        at = table + tl.program_id(0) * width + column
        while first < end:
            place = first + tl.arange(0, gathered)
            row = tl.load(order + place, mask=place < end, other=0)
            inside = (place < end)[:, None] & there[None, :]
            total += tl.load(rows + row[:, None] * width + column[None, :], mask=inside, other=0.0).to(tl.float32)
            first += gathered
        tl.store(at, tl.load(at, mask=there, other=0.0) + tl.sum(total, axis=0), mask=there)


def norm_forward(x: Tensor, change: Tensor | None, gain: Tensor, total: Tensor, normed: Tensor) -> None:
    """Write `total`, x + change, and `normed`, its RMSNorm; without `change`, that of x. Shapes: (N, D)."""
    count, width = x.shape
    _norm_forward[(triton.cdiv(count, ROWS[0]),)](
        x, x if change is None else change, gain, total, normed, count, width, change is not None, ROWS[0],
        triton.next_power_of_2(width), NORM_EPSILON,
    )  # fmt: skip


def norm_backward(
    x: Tensor, gain: Tensor, gradient: Tensor, beside: Tensor | None, of_x: Tensor, of_gain: Tensor
) -> None:
    """Write the gradient of x, (N, D): what comes through its norm, and `beside` it; and that of the gain, in PARTS
    parts, (PARTS, D)."""
    count, width = x.shape
    _norm_backward[(PARTS,)](
        x, gain, gradient, x if beside is None else beside, of_x, of_gain, count, width,
        triton.cdiv(count, PARTS * ROWS[1]), beside is not None, ROWS[1], triton.next_power_of_2(width), NORM_EPSILON,
        num_warps=2,
    )  # fmt: skip


def swiglu_forward(projected: Tensor, hidden: Tensor) -> None:
    """Write silu(gate) * up, (N, F), of gates and ups, (N, 2 F)."""
    _swiglu_forward[(triton.cdiv(hidden.numel(), ELEMENTS),)](
        projected, hidden, hidden.numel(), hidden.shape[1], ELEMENTS
    )


def swiglu_backward(projected: Tensor, gradient: Tensor, of_projected: Tensor) -> None:
    """Write the gradient of gates and ups, (N, 2 F)."""
    _swiglu_backward[(triton.cdiv(gradient.numel(), ELEMENTS),)](
        projected, gradient, of_projected, gradient.numel(), gradient.shape[1], ELEMENTS
    )


def cross_entropy(logits: Tensor, targets: Tensor, losses: Tensor) -> None:
    """Write each token's loss, (N,), and over the logits, (N, V), the gradient of the losses' mean."""
    count, vocabulary = logits.shape
    _cross_entropy[(count,)](logits, targets, losses, 1.0 / count, vocabulary, COLUMNS)


def sum_parts(parts: Tensor, total: Tensor) -> None:
    """Write sums over the second dimension. Shapes: (A, parts, C) -> (A, C)."""
    many, count, width = parts.shape
    grid = (many, triton.cdiv(width, SUMMED[1]))
    _sum_parts[grid](parts, total, count, width, *SUMMED)


def add_rows(table: Tensor, rows: Tensor, order: Tensor, starts: Tensor) -> None:
    """Add to row v of the table those rows that `order` names from starts[v] to starts[v + 1].

    Shapes: (V, D), (N, D), (N,), (V + 1,). So rows of one token are added up in one order always, which atomic
    additions would not be.
    """
    width = table.shape[1]
    _add_rows[(len(table),)](table, rows, order, starts, width, GATHERED, triton.next_power_of_2(width), num_warps=1)
