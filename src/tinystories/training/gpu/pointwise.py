"""What a training step computes between matrix products on a GPU, in Triton: one pass over memory for each kernel.

Activations are in the compute dtype, sums are fp32. Formulas and names are those of the plain versions: RMSNorm of
model/norm.py, SwiGLU of `GPT._feed_forward`, cross-entropy of model/cross_entropy.py.

Letters in shapes: N tokens of a batch, D embedding, F feed-forward, V vocabulary.
"""

import triton
import triton.language as tl
from torch import Tensor

from tinystories.model.stock_config import NORM_EPSILON

# Block sizes are the fastest on an H200 of those that were tried (docs/log.md).
BLOCK_ROWS = 4, 8  # of a norm, forward and backward
NUM_PARTIALS = 512  # programs of a norm's backward pass, and partial sums of the gradient of its weight
BLOCK_SIZE = 1024  # of SwiGLU
BLOCK_VOCAB = 2048  # of the logits
BLOCK_PARTIALS, BLOCK_COLUMNS = 64, 32  # of partial sums
BLOCK_TOKENS = 16  # of the embedding's backward pass


@triton.jit
def _norm_forward(
    x, branch_out, weight, residual, normed, count, width, HAS_BRANCH: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr, EPSILON: tl.constexpr,
):  # fmt: skip
    rows, columns = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS), tl.arange(0, BLOCK_WIDTH)
    offs = rows[:, None] * width + columns[None, :]
    mask = (rows < count)[:, None] & (columns < width)[None, :]
    value = tl.load(x + offs, mask=mask, other=0.0)
    if HAS_BRANCH:
        value = (value.to(tl.float32) + tl.load(branch_out + offs, mask=mask, other=0.0)).to(x.dtype.element_ty)
        tl.store(residual + offs, value, mask=mask)
    value = value.to(tl.float32)
    rstd = tl.rsqrt(tl.sum(value * value, axis=1) / width + EPSILON)[:, None]
    w = tl.load(weight + columns, mask=columns < width, other=0.0)[None, :]
    tl.store(normed + offs, (value * rstd * w).to(x.dtype.element_ty), mask=mask)


@triton.jit
def _norm_backward(
    x, weight, grad_normed, grad_skip, grad_x, grad_weight, count, width, NUM_ITERS: tl.constexpr,
    HAS_SKIP: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_WIDTH: tl.constexpr, EPSILON: tl.constexpr,
):  # fmt: skip
    columns = tl.arange(0, BLOCK_WIDTH)
    column_mask = columns < width
    w = tl.load(weight + columns, mask=column_mask, other=0.0)[None, :]
    grad_w = tl.zeros((BLOCK_ROWS, BLOCK_WIDTH), tl.float32)
    for i in range(NUM_ITERS):
        rows = (i * tl.num_programs(0) + tl.program_id(0)) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        offs = rows[:, None] * width + columns[None, :]
        mask = (rows < count)[:, None] & column_mask[None, :]
        x_hat = tl.load(x + offs, mask=mask, other=0.0).to(tl.float32)
        grad = tl.load(grad_normed + offs, mask=mask, other=0.0).to(tl.float32)
        rstd = tl.rsqrt(tl.sum(x_hat * x_hat, axis=1) / width + EPSILON)[:, None]
        x_hat *= rstd
        grad_w += grad * x_hat
        grad *= w
        result = rstd * (grad - x_hat * (tl.sum(grad * x_hat, axis=1) / width)[:, None])
        if HAS_SKIP:
            result += tl.load(grad_skip + offs, mask=mask, other=0.0)
        tl.store(grad_x + offs, result.to(grad_x.dtype.element_ty), mask=mask)
    tl.store(grad_weight + tl.program_id(0) * width + columns, tl.sum(grad_w, axis=0), mask=column_mask)


@triton.jit
def _swiglu_forward(gate_up, hidden, count, WIDTH: tl.constexpr, BLOCK_SIZE: tl.constexpr):
    offs = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offs < count
    gate_ptrs = gate_up + offs // WIDTH * (2 * WIDTH) + offs % WIDTH
    gate, up = tl.load(gate_ptrs, mask=mask).to(tl.float32), tl.load(gate_ptrs + WIDTH, mask=mask).to(tl.float32)
    tl.store(hidden + offs, (gate * tl.sigmoid(gate) * up).to(hidden.dtype.element_ty), mask=mask)


@triton.jit
def _swiglu_backward(gate_up, grad_hidden, grad_gate_up, count, WIDTH: tl.constexpr, BLOCK_SIZE: tl.constexpr):
    offs = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offs < count
    gate_offs = offs // WIDTH * (2 * WIDTH) + offs % WIDTH
    gate = tl.load(gate_up + gate_offs, mask=mask).to(tl.float32)
    up = tl.load(gate_up + gate_offs + WIDTH, mask=mask).to(tl.float32)
    grad = tl.load(grad_hidden + offs, mask=mask).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    grad_gate = grad * up * sigmoid * (1 + gate * (1 - sigmoid))
    grad_up = grad * gate * sigmoid
    tl.store(grad_gate_up + gate_offs, grad_gate.to(grad_gate_up.dtype.element_ty), mask=mask)
    tl.store(grad_gate_up + gate_offs + WIDTH, grad_up.to(grad_gate_up.dtype.element_ty), mask=mask)


@triton.jit
def _cross_entropy(logits, targets, losses, factor, VOCAB_SIZE: tl.constexpr, BLOCK_VOCAB: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    row_ptr = logits + row * VOCAB_SIZE
    target = tl.load(targets + row)
    # Three passes over a row: it stays in the cache, and each exponential of the sum is computed once.
    running_max = tl.full((BLOCK_VOCAB,), float("-inf"), tl.float32)
    for start in range(0, VOCAB_SIZE, BLOCK_VOCAB):
        offs = start + tl.arange(0, BLOCK_VOCAB)
        logit = tl.load(row_ptr + offs, mask=offs < VOCAB_SIZE, other=float("-inf")).to(tl.float32)
        running_max = tl.maximum(running_max, logit)
    lse = tl.max(running_max, axis=0)
    running_sum = tl.zeros((BLOCK_VOCAB,), tl.float32)
    for start in range(0, VOCAB_SIZE, BLOCK_VOCAB):
        offs = start + tl.arange(0, BLOCK_VOCAB)
        logit = tl.load(row_ptr + offs, mask=offs < VOCAB_SIZE, other=float("-inf")).to(tl.float32)
        running_sum += tl.exp(logit - lse)
    lse += tl.log(tl.sum(running_sum, axis=0))
    tl.store(losses + row, lse - tl.load(row_ptr + target).to(tl.float32))
    tl.debug_barrier()  # the target's logit is read before it is overwritten
    for start in range(0, VOCAB_SIZE, BLOCK_VOCAB):
        offs = start + tl.arange(0, BLOCK_VOCAB)
        logit = tl.load(row_ptr + offs, mask=offs < VOCAB_SIZE, other=float("-inf")).to(tl.float32)
        grad = (tl.exp(logit - lse) - tl.where(offs == target, 1.0, 0.0)) * factor
        tl.store(row_ptr + offs, grad.to(logits.dtype.element_ty), mask=offs < VOCAB_SIZE)


@triton.jit
def _sum_partials(
    partials, total, NUM_PARTIALS: tl.constexpr, width, BLOCK_PARTIALS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr
):  # fmt: skip
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    column_mask = columns < width
    acc = tl.zeros((BLOCK_PARTIALS, BLOCK_COLUMNS), tl.float32)
    for start in range(0, NUM_PARTIALS, BLOCK_PARTIALS):
        rows = start + tl.arange(0, BLOCK_PARTIALS)
        offs = (tl.program_id(0) * NUM_PARTIALS + rows[:, None]) * width + columns[None, :]
        acc += tl.load(partials + offs, mask=(rows < NUM_PARTIALS)[:, None] & column_mask[None, :], other=0.0)
    tl.store(total + tl.program_id(0) * width + columns, tl.sum(acc, axis=0), mask=column_mask)


@triton.jit
def _embedding_backward(
    grad_table, grad_rows, sort_idx, segment_offsets, width, BLOCK_TOKENS: tl.constexpr, BLOCK_WIDTH: tl.constexpr
):  # fmt: skip
    start, end = tl.load(segment_offsets + tl.program_id(0)), tl.load(segment_offsets + tl.program_id(0) + 1)
    columns = tl.arange(0, BLOCK_WIDTH)
    column_mask = columns < width
    acc = tl.zeros((BLOCK_TOKENS, BLOCK_WIDTH), tl.float32)
    if start < end:
        ptrs = grad_table + tl.program_id(0) * width + columns
        while start < end:
            offs = start + tl.arange(0, BLOCK_TOKENS)
            rows = tl.load(sort_idx + offs, mask=offs < end, other=0)
            mask = (offs < end)[:, None] & column_mask[None, :]
            acc += tl.load(grad_rows + rows[:, None] * width + columns[None, :], mask=mask, other=0.0).to(tl.float32)
            start += BLOCK_TOKENS
        tl.store(ptrs, tl.load(ptrs, mask=column_mask, other=0.0) + tl.sum(acc, axis=0), mask=column_mask)


def norm_forward(x: Tensor, branch_out: Tensor | None, weight: Tensor, residual: Tensor, normed: Tensor) -> None:
    """Write `residual`, x + branch_out, and `normed`, its RMSNorm; without `branch_out`, the RMSNorm of x. Shapes:
    (N, D)."""
    count, width = x.shape
    _norm_forward[(triton.cdiv(count, BLOCK_ROWS[0]),)](
        x, x if branch_out is None else branch_out, weight, residual, normed, count, width, branch_out is not None,
        BLOCK_ROWS[0], triton.next_power_of_2(width), NORM_EPSILON,
    )  # fmt: skip


def norm_backward(
    x: Tensor, weight: Tensor, grad_normed: Tensor, grad_skip: Tensor | None, grad_x: Tensor, grad_weight: Tensor
) -> None:
    """Write `grad_x`, (N, D), the gradient through the norm plus `grad_skip`, and `grad_weight` as partial sums,
    (NUM_PARTIALS, D)."""
    count, width = x.shape
    _norm_backward[(NUM_PARTIALS,)](
        x, weight, grad_normed, x if grad_skip is None else grad_skip, grad_x, grad_weight, count, width,
        triton.cdiv(count, NUM_PARTIALS * BLOCK_ROWS[1]), grad_skip is not None, BLOCK_ROWS[1],
        triton.next_power_of_2(width), NORM_EPSILON, num_warps=2,
    )  # fmt: skip


def swiglu_forward(gate_up: Tensor, hidden: Tensor) -> None:
    """Write `hidden`, silu(gate) * up. Shapes: (N, 2 F) -> (N, F)."""
    count, width = hidden.numel(), hidden.shape[1]
    _swiglu_forward[(triton.cdiv(count, BLOCK_SIZE),)](gate_up, hidden, count, width, BLOCK_SIZE)


def swiglu_backward(gate_up: Tensor, grad_hidden: Tensor, grad_gate_up: Tensor) -> None:
    """Write the gradient of gate and up. Shapes: (N, 2 F), (N, F) -> (N, 2 F)."""
    count, width = grad_hidden.numel(), grad_hidden.shape[1]
    _swiglu_backward[(triton.cdiv(count, BLOCK_SIZE),)](gate_up, grad_hidden, grad_gate_up, count, width, BLOCK_SIZE)


def cross_entropy(logits: Tensor, targets: Tensor, losses: Tensor) -> None:
    """Write each token's loss, (N,), and overwrite the logits, (N, V), with the gradient of the mean loss."""
    count, vocab_size = logits.shape
    _cross_entropy[(count,)](logits, targets, losses, 1.0 / count, vocab_size, BLOCK_VOCAB)


def sum_partials(partials: Tensor, total: Tensor) -> None:
    """Sum over the second dimension. Shapes: (A, partials, C) -> (A, C)."""
    count, num_partials, width = partials.shape
    grid = (count, triton.cdiv(width, BLOCK_COLUMNS))
    _sum_partials[grid](partials, total, num_partials, width, BLOCK_PARTIALS, BLOCK_COLUMNS)


def embedding_backward(grad_table: Tensor, grad_rows: Tensor, sort_idx: Tensor, segment_offsets: Tensor) -> None:
    """Add the gradients of the tokens v, which are at segment_offsets[v] to segment_offsets[v + 1] of `sort_idx`, to
    row v of the table.

    The order of addition is always the same, which it would not be with atomic additions.
    Shapes: (V, D), (N, D), (N,), (V + 1,).
    """
    width = grad_table.shape[1]
    _embedding_backward[(len(grad_table),)](
        grad_table, grad_rows, sort_idx, segment_offsets, width, BLOCK_TOKENS, triton.next_power_of_2(width),
        num_warps=1,
    )  # fmt: skip
