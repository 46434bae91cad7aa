"""The optimizer's kernels on a GPU, in Triton: each reads and writes gradients, state and weights once.

All tensors are fp32, except that Muon's updates are in the compute dtype. `scale`, `lr`, `lr_factor` and `step` have
shape () and lie on the GPU, so nothing waits for the host. The formulas are those of `Optimizer` in
training/optimizer.py, with the same names.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_SIZE = 1024  # elements of a program
BLOCK_ROWS = 16  # of a large matrix, at a time
BLOCK_MATMUL = 64  # rows, columns and inner elements of a tile
NUM_PROGRAMS = 16  # for each large matrix
NUM_PARTIALS = 1024  # sums of squares
MAX_FUSED_SHAPE = 64, 512  # rows and columns of the largest matrix that fits into a multiprocessor
EPS = tl.constexpr(1e-30)  # added to norms, against division by 0

Coefficients = tuple[tuple[float, float, float], ...]


@triton.jit
def _sum_of_squares(grads, partials, count, NUM_ITERS: tl.constexpr, BLOCK_SIZE: tl.constexpr):
    squares = tl.zeros((BLOCK_SIZE,), tl.float32)
    for i in range(NUM_ITERS):
        offs = (i * tl.num_programs(0) + tl.program_id(0)) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        grad = tl.load(grads + offs, mask=offs < count, other=0.0)
        squares += grad * grad
    tl.store(partials + tl.program_id(0), tl.sum(squares, axis=0))


@triton.jit
def _grad_clip_and_lr(
    partials, lr_factor, grad_norm, scale, matrix_lr, other_lr, max_norm, matrix_peak, other_peak,
    NUM_PARTIALS: tl.constexpr,
):  # fmt: skip
    norm = tl.sqrt(tl.sum(tl.load(partials + tl.arange(0, NUM_PARTIALS)), axis=0))
    tl.store(grad_norm, norm)
    tl.store(scale, tl.where(max_norm > 0, tl.minimum(max_norm / (norm + 1e-6), 1.0), 1.0))
    factor = tl.load(lr_factor)
    tl.store(matrix_lr, factor * matrix_peak)
    tl.store(other_lr, factor * other_peak)


@triton.jit
def _momentum_update(
    grad, scale, momentum_buffer, nesterov, count, MOMENTUM: tl.constexpr, BLOCK_SIZE: tl.constexpr
):  # fmt: skip
    offs = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offs < count
    g = tl.load(grad + offs, mask=mask) * tl.load(scale)
    m = tl.load(momentum_buffer + offs, mask=mask)
    m += (g - m) * (1 - MOMENTUM)
    tl.store(momentum_buffer + offs, m, mask=mask)
    tl.store(nesterov + offs, (g + (m - g) * MOMENTUM).to(nesterov.dtype.element_ty), mask=mask)


@triton.jit
def _apply_update(
    weight, compute_weight, update, lr, count, WEIGHT_DECAY: tl.constexpr, BLOCK_SIZE: tl.constexpr
):  # fmt: skip
    offs = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offs < count
    rate = tl.load(lr)
    w = tl.load(weight + offs, mask=mask) * (1 - rate * WEIGHT_DECAY)
    w -= tl.load(update + offs, mask=mask).to(tl.float32) * rate
    tl.store(weight + offs, w, mask=mask)
    tl.store(compute_weight + offs, w.to(compute_weight.dtype.element_ty), mask=mask)


@triton.jit
def _nadam(
    weight, compute_weight, grad, scale, exp_avg, exp_avg_sq, lr, step, count, BETA1: tl.constexpr,
    BETA2: tl.constexpr, WEIGHT_DECAY: tl.constexpr, EPSILON: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    offs = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offs < count
    rate, steps = tl.load(lr), tl.load(step).to(tl.float32) + 1
    g = tl.load(grad + offs, mask=mask) * tl.load(scale)
    m, v = tl.load(exp_avg + offs, mask=mask), tl.load(exp_avg_sq + offs, mask=mask)
    m += (g - m) * (1 - BETA1)
    v += (g * g - v) * (1 - BETA2)
    tl.store(exp_avg + offs, m, mask=mask)
    tl.store(exp_avg_sq + offs, v, mask=mask)
    log_beta1, log_beta2 = tl.log(tl.full((), BETA1, tl.float32)), tl.log(tl.full((), BETA2, tl.float32))
    bias_correction, next_bias_correction = 1 - tl.exp(steps * log_beta1), 1 - tl.exp((steps + 1) * log_beta1)
    nesterov = g * ((1 - BETA1) / bias_correction) + m * (BETA1 / next_bias_correction)
    denom = tl.sqrt(v / (1 - tl.exp(steps * log_beta2))) + EPSILON
    w = tl.load(weight + offs, mask=mask) * (1 - rate * WEIGHT_DECAY) - rate * nesterov / denom
    tl.store(weight + offs, w, mask=mask)
    tl.store(compute_weight + offs, w.to(compute_weight.dtype.element_ty), mask=mask)


@triton.jit
def _orthogonalize(
    matrices, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GROUPS_PER_STRIDE: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr, MARGIN: tl.constexpr, COEFFICIENTS: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = matrices.dtype.element_ty
    stride_idx, group_idx = tl.program_id(0) // GROUPS_PER_STRIDE, tl.program_id(0) % GROUPS_PER_STRIDE
    rows, columns = tl.arange(0, ROWS), tl.arange(0, BLOCK_COLUMNS)
    start = matrices + stride_idx * STRIDE + group_idx * ROWS * COLUMNS
    ptrs, mask = start + rows[:, None] * COLUMNS + columns[None, :], (columns < COLUMNS)[None, :]
    x = tl.load(ptrs, mask=mask, other=0.0)
    norm = tl.sqrt(tl.sum(tl.sum(x.to(tl.float32) * x, axis=1), axis=0)) + EPS
    x = (x / norm).to(dtype)
    gram = tl.dot(x, tl.trans(x))
    bound = tl.sqrt(tl.sqrt(tl.sum(tl.sum(gram * gram, axis=1), axis=0))) * MARGIN + EPS
    x = (x / bound).to(dtype)
    for i in tl.static_range(len(COEFFICIENTS)):
        gram = tl.dot(x, tl.trans(x)).to(dtype)
        polynomial = gram.to(tl.float32) * COEFFICIENTS[i][1] + tl.dot(gram, gram) * COEFFICIENTS[i][2]
        x = (x.to(tl.float32) * COEFFICIENTS[i][0] + tl.dot(polynomial.to(dtype), x)).to(dtype)
    tl.store(ptrs, x, mask=mask)


@triton.jit
def _normalize_spectral(
    matrices, gram, out, out_gram, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr, NUM_PROGRAMS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_GRAM: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, MARGIN: tl.constexpr,
):  # fmt: skip
    matrix_idx, program_idx = tl.program_id(0), tl.program_id(1)
    gram_columns, columns = tl.arange(0, BLOCK_GRAM), tl.arange(0, BLOCK_COLUMNS)
    gram_start = gram + matrix_idx * ROWS * ROWS
    # Each program of a matrix adds up all squares, because that is cheaper than communicating.
    squares = tl.zeros((BLOCK_ROWS, BLOCK_GRAM), tl.float32)
    for start in range(0, ROWS, BLOCK_ROWS):
        rows = start + tl.arange(0, BLOCK_ROWS)
        mask = (rows < ROWS)[:, None] & (gram_columns < ROWS)[None, :]
        offs = rows[:, None] * ROWS + gram_columns[None, :]
        value = tl.load(gram_start + offs, mask=mask, other=0.0).to(tl.float32)
        squares += value * value
    bound = tl.sqrt(tl.sqrt(tl.sum(tl.sum(squares, axis=1), axis=0))) * MARGIN + EPS
    for start in range(0, ROWS, BLOCK_ROWS * NUM_PROGRAMS):
        rows = start + program_idx * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        mask = (rows < ROWS)[:, None] & (gram_columns < ROWS)[None, :]
        offs = rows[:, None] * ROWS + gram_columns[None, :]
        value = tl.load(gram_start + offs, mask=mask, other=0.0).to(tl.float32) / bound / bound
        tl.store(out_gram + matrix_idx * ROWS * ROWS + offs, value.to(gram.dtype.element_ty), mask=mask)
        mask = (rows < ROWS)[:, None] & (columns < COLUMNS)[None, :]
        offs = rows[:, None] * COLUMNS + columns[None, :]
        value = tl.load(matrices + matrix_idx * stride + offs, mask=mask, other=0.0).to(tl.float32) / bound
        tl.store(out + matrix_idx * ROWS * COLUMNS + offs, value.to(gram.dtype.element_ty), mask=mask)


@triton.jit
def _baddbmm(a, b, c, out, rows, columns, INNER: tl.constexpr, alpha, beta, BLOCK: tl.constexpr):
    batch_idx = tl.program_id(2)
    row_offs, col_offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, INNER, BLOCK):
        inner_offs = start + tl.arange(0, BLOCK)
        a_ptrs = a + batch_idx * rows * INNER + row_offs[:, None] * INNER + inner_offs[None, :]
        b_ptrs = b + batch_idx * INNER * columns + inner_offs[:, None] * columns + col_offs[None, :]
        a_tile = tl.load(a_ptrs, mask=(row_offs < rows)[:, None] & (inner_offs < INNER)[None, :], other=0.0)
        b_tile = tl.load(b_ptrs, mask=(inner_offs < INNER)[:, None] & (col_offs < columns)[None, :], other=0.0)
        acc = tl.dot(a_tile, b_tile, acc)
    offs = batch_idx * rows * columns + row_offs[:, None] * columns + col_offs[None, :]
    mask = (row_offs < rows)[:, None] & (col_offs < columns)[None, :]
    acc = acc * alpha + tl.load(c + offs, mask=mask, other=0.0).to(tl.float32) * beta
    tl.store(out + offs, acc.to(out.dtype.element_ty), mask=mask)


def grad_clip_and_lr(
    flat_grads: Tensor, lr_factor: Tensor, max_norm: float, matrix_peak: float, other_peak: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the norm of all gradients, the factor that clips it to `max_norm`, and the learning rates of the step, of
    the matrices and of the other weights. Shapes: ()."""
    count = flat_grads.numel()
    partials, results = flat_grads.new_empty(NUM_PARTIALS), flat_grads.new_empty(4)
    grad_norm, scale, matrix_lr, other_lr = results.unbind()
    num_iters = triton.cdiv(count, NUM_PARTIALS * BLOCK_SIZE)
    _sum_of_squares[(NUM_PARTIALS,)](flat_grads, partials, count, num_iters, BLOCK_SIZE)
    _grad_clip_and_lr[(1,)](
        partials, lr_factor, grad_norm, scale, matrix_lr, other_lr, max_norm, matrix_peak, other_peak, NUM_PARTIALS
    )
    return grad_norm, scale, matrix_lr, other_lr


def momentum_update(grad: Tensor, scale: Tensor, momentum_buffer: Tensor, nesterov: Tensor, momentum: float) -> None:
    """Average the gradient times `scale` into `momentum_buffer`; write the Nesterov momentum."""
    count = grad.numel()
    _momentum_update[(triton.cdiv(count, BLOCK_SIZE),)](
        grad, scale, momentum_buffer, nesterov, count, momentum, BLOCK_SIZE
    )


def apply_update(weight: Tensor, compute_weight: Tensor, update: Tensor, lr: Tensor, weight_decay: float) -> None:
    """Subtract the update from the decayed weight; write it to `compute_weight` too."""
    count = weight.numel()
    _apply_update[(triton.cdiv(count, BLOCK_SIZE),)](
        weight, compute_weight, update, lr, count, weight_decay, BLOCK_SIZE
    )


def nadam(
    weight: Tensor, compute_weight: Tensor, grad: Tensor, scale: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor,
    lr: Tensor, step: Tensor, betas: tuple[float, float], weight_decay: float, epsilon: float,
) -> None:  # fmt: skip
    """Update by NAdam with the gradient times `scale`; write the weight to `compute_weight` too."""
    count = weight.numel()
    _nadam[(triton.cdiv(count, BLOCK_SIZE),)](
        weight, compute_weight, grad, scale, exp_avg, exp_avg_sq, lr, step, count, *betas, weight_decay, epsilon,
        BLOCK_SIZE,
    )  # fmt: skip


def is_supported(rows: int, columns: int) -> bool:
    """Return whether `orthogonalize` is made for matrices of this size."""
    return 16 <= rows <= MAX_FUSED_SHAPE[0] and columns <= MAX_FUSED_SHAPE[1] and rows & (rows - 1) == 0


def orthogonalize(matrices: Tensor, rows: int, margin: float, coefficients: Coefficients) -> None:
    """Set the singular values of each group of `rows` rows to about 1, in place.

    Shape: (A, all rows, columns), each of the A blocks contiguous.
    """
    blocks, all_rows, columns = matrices.shape
    groups = all_rows // rows
    _orthogonalize[(blocks * groups,)](
        matrices, rows, columns, groups, matrices.stride(0), triton.next_power_of_2(columns), margin, coefficients
    )


def orthogonalize_large(matrices: Tensor, margin: float, coefficients: Coefficients) -> None:
    """Set the singular values of whole matrices, wide or square, to about 1, in place. Shape: (A, R, C), each
    contiguous."""
    count, rows, columns = matrices.shape
    unscaled_gram = torch.bmm(matrices, matrices.mT)
    x, gram = matrices.new_empty(matrices.shape), torch.empty_like(unscaled_gram)
    _normalize_spectral[(count, NUM_PROGRAMS)](
        matrices, unscaled_gram, x, gram, matrices.stride(0), rows, columns, NUM_PROGRAMS, BLOCK_ROWS,
        triton.next_power_of_2(rows), triton.next_power_of_2(columns), margin, num_warps=8,
    )  # fmt: skip
    for iteration, (a, b, c) in enumerate(coefficients):
        if iteration:
            gram = torch.bmm(x, x.mT)
        x = baddbmm(x, baddbmm(gram, gram, gram, b, c), x, a, 1.0)
    matrices.copy_(x)


def baddbmm(added: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float) -> Tensor:
    """Return beta * added + alpha * a @ b, which cuBLAS does with a copy. Shapes: (A, R, C), (A, R, I), (A, I, C)."""
    count, rows, inner = a.shape
    columns, out = b.shape[2], torch.empty_like(added)
    grid = (triton.cdiv(rows, BLOCK_MATMUL), triton.cdiv(columns, BLOCK_MATMUL), count)
    _baddbmm[grid](a, b, added, out, rows, columns, inner, alpha, beta, BLOCK_MATMUL)
    return out
