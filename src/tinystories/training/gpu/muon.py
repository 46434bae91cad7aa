"""The optimizer's passes over gradients, memory and weights on a GPU, in Triton: each reads and writes them once.

All are fp32 but what goes into the products of Muon and comes out of them. `scale`, `rate` and `step` have shape () and
lie on the GPU, where they are computed: nothing waits for the host.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from tinystories.common.params import Train

ELEMENTS = 1024  # at a time
LARGEST = 64, 512  # rows and columns of the matrices of which one fits into a multiprocessor
SHARES = 16  # programs for each larger matrix
ROWS = 16  # of a larger matrix, at a time
TINY = 1e-30  # instead of a zero that is divided by
TILE = 64  # rows, columns and products, at a time, of a product of larger ones
PARTS = 1024  # of the gradients' norm


@triton.jit
def _add_squares(gradients, parts, count, turns: tl.constexpr, elements: tl.constexpr):
    squares = tl.zeros((elements,), tl.float32)
    for turn in range(turns):
        index = (turn * tl.num_programs(0) + tl.program_id(0)) * elements + tl.arange(0, elements)
        value = tl.load(gradients + index, mask=index < count, other=0.0)
        squares += value * value
    tl.store(parts + tl.program_id(0), tl.sum(squares, axis=0))


@triton.jit
def _clip(
    parts, step, norm, scale, matrix_rate, other_rate, limit, steps, warm, cool, matrix_peak, other_peak,
    count: tl.constexpr,
):  # fmt: skip
    length = tl.sqrt(tl.sum(tl.load(parts + tl.arange(0, count)), axis=0))
    tl.store(norm, length)
    tl.store(scale, tl.where(limit > 0, tl.minimum(limit / (length + 1e-6), 1.0), 1.0))
    at = tl.load(step).to(tl.float32)
    factor = tl.minimum(tl.minimum((at + 1) / warm, (steps - at) / cool), 1.0)
    tl.store(matrix_rate, factor * matrix_peak)
    tl.store(other_rate, factor * other_peak)


@triton.jit
def _average(gradient, scale, momentum, look_ahead, count, beta: tl.constexpr, elements: tl.constexpr):
    index = tl.program_id(0) * elements + tl.arange(0, elements)
    there = index < count
    change = tl.load(gradient + index, mask=there) * tl.load(scale)
    average = tl.load(momentum + index, mask=there)
    average += (change - average) * (1 - beta)
    tl.store(momentum + index, average, mask=there)
    tl.store(look_ahead + index, (change + (average - change) * beta).to(look_ahead.dtype.element_ty), mask=there)


@triton.jit
def _move(weight, copy, direction, rate, count, decay: tl.constexpr, elements: tl.constexpr):
    index = tl.program_id(0) * elements + tl.arange(0, elements)
    there = index < count
    by = tl.load(rate)
    value = tl.load(weight + index, mask=there) * (1 - by * decay)
    value -= tl.load(direction + index, mask=there).to(tl.float32) * by
    tl.store(weight + index, value, mask=there)
    tl.store(copy + index, value.to(copy.dtype.element_ty), mask=there)


@triton.jit
def _adam(
    weight, copy, gradient, scale, mean, square, rate, step, count, beta1: tl.constexpr, beta2: tl.constexpr,
    decay: tl.constexpr, epsilon: tl.constexpr, elements: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0) * elements + tl.arange(0, elements)
    there = index < count
    by, number = tl.load(rate), tl.load(step).to(tl.float32) + 1
    change = tl.load(gradient + index, mask=there) * tl.load(scale)
    first, second = tl.load(mean + index, mask=there), tl.load(square + index, mask=there)
    first += (change - first) * (1 - beta1)
    second += (change * change - second) * (1 - beta2)
    tl.store(mean + index, first, mask=there)
    tl.store(square + index, second, mask=there)
    # Both start at zero and are too small at first.
    log_beta1, log_beta2 = tl.log(tl.full((), beta1, tl.float32)), tl.log(tl.full((), beta2, tl.float32))
    correction, next_correction = 1 - tl.exp(number * log_beta1), 1 - tl.exp((number + 1) * log_beta1)
    ahead = change * ((1 - beta1) / correction) + first * (beta1 / next_correction)
    size = tl.sqrt(second / (1 - tl.exp(number * log_beta2))) + epsilon
    value = tl.load(weight + index, mask=there) * (1 - by * decay) - by * ahead / size
    tl.store(weight + index, value, mask=there)
    tl.store(copy + index, value.to(copy.dtype.element_ty), mask=there)


@triton.jit
def _orthogonalize(
    matrices, rows: tl.constexpr, columns: tl.constexpr, per_stride: tl.constexpr, stride: tl.constexpr,
    block: tl.constexpr, margin: tl.constexpr, coefficients: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = matrices.dtype.element_ty
    row, column = tl.arange(0, rows), tl.arange(0, block)
    start = matrices + (tl.program_id(0) // per_stride) * stride + (tl.program_id(0) % per_stride) * rows * columns
    at, there = start + row[:, None] * columns + column[None, :], (column < columns)[None, :]
    x = tl.load(at, mask=there, other=0.0)
    norm = tl.sqrt(tl.sum(tl.sum(x.to(tl.float32) * x, axis=1), axis=0)) + 1e-30
    x = (x / norm).to(dtype)
    squares = tl.dot(x, tl.trans(x))
    bound = tl.sqrt(tl.sqrt(tl.sum(tl.sum(squares * squares, axis=1), axis=0))) * margin + 1e-30
    x = (x / bound).to(dtype)
    for step in tl.static_range(len(coefficients)):
        gram = tl.dot(x, tl.trans(x)).to(dtype)
        polynomial = gram.to(tl.float32) * coefficients[step][1] + tl.dot(gram, gram) * coefficients[step][2]
        x = (x.to(tl.float32) * coefficients[step][0] + tl.dot(polynomial.to(dtype), x)).to(dtype)
    tl.store(at, x, mask=there)


@triton.jit
def _scale_to_one(
    matrices, gram, scaled, scaled_gram, stride, size: tl.constexpr, columns: tl.constexpr, shares: tl.constexpr,
    rows: tl.constexpr, gram_block: tl.constexpr, block: tl.constexpr, margin: tl.constexpr,
):  # fmt: skip
    number, share = tl.program_id(0), tl.program_id(1)
    gram_column, column = tl.arange(0, gram_block), tl.arange(0, block)
    start = gram + number * size * size
    # Every program of a matrix adds up all of its squares: that is cheaper than telling one another.
    squares = tl.zeros((rows, gram_block), tl.float32)
    for first in range(0, size, rows):
        row = first + tl.arange(0, rows)
        inside = (row < size)[:, None] & (gram_column < size)[None, :]
        value = tl.load(start + row[:, None] * size + gram_column[None, :], mask=inside, other=0.0).to(tl.float32)
        squares += value * value
    bound = tl.sqrt(tl.sqrt(tl.sum(tl.sum(squares, axis=1), axis=0))) * margin + 1e-30
    for first in range(0, size, rows * shares):
        row = first + share * rows + tl.arange(0, rows)
        inside = (row < size)[:, None] & (gram_column < size)[None, :]
        at = row[:, None] * size + gram_column[None, :]
        value = tl.load(start + at, mask=inside, other=0.0).to(tl.float32) / bound / bound
        tl.store(scaled_gram + number * size * size + at, value.to(gram.dtype.element_ty), mask=inside)
        inside = (row < size)[:, None] & (column < columns)[None, :]
        at = row[:, None] * columns + column[None, :]
        value = tl.load(matrices + number * stride + at, mask=inside, other=0.0).to(tl.float32) / bound
        tl.store(scaled + number * size * columns + at, value.to(gram.dtype.element_ty), mask=inside)


@triton.jit
def _multiply_add(a, b, c, out, rows, columns, inner: tl.constexpr, alpha, beta, tile: tl.constexpr):
    dtype: tl.constexpr = out.dtype.element_ty
    number = tl.program_id(2)
    row, column = tl.program_id(0) * tile + tl.arange(0, tile), tl.program_id(1) * tile + tl.arange(0, tile)
    total = tl.zeros((tile, tile), tl.float32)
    for first in range(0, inner, tile):
        place = first + tl.arange(0, tile)
        left = a + number * rows * inner + row[:, None] * inner + place[None, :]
        right = b + number * inner * columns + place[:, None] * columns + column[None, :]
        left = tl.load(left, mask=(row < rows)[:, None] & (place < inner)[None, :], other=0.0)
        right = tl.load(right, mask=(place < inner)[:, None] & (column < columns)[None, :], other=0.0)
        total = tl.dot(left, right, total)
    at = number * rows * columns + row[:, None] * columns + column[None, :]
    there = (row < rows)[:, None] & (column < columns)[None, :]
    total = total * alpha + tl.load(c + at, mask=there, other=0.0).to(tl.float32) * beta
    tl.store(out + at, total.to(dtype), mask=there)


def clip(gradients: Tensor, step: Tensor, train: Train) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of all gradients, which lie in one vector, the norm, and by what they are to be scaled so that it is not too
    large; and the step's rates, by `optimizer.schedule`, of the matrices and of the rest. Shapes: ()."""
    count = gradients.numel()
    parts, results = gradients.new_empty(PARTS), gradients.new_empty(4)
    norm, scale, matrix_rate, other_rate = results.unbind()
    _add_squares[(PARTS,)](gradients, parts, count, triton.cdiv(count, PARTS * ELEMENTS), ELEMENTS)
    _clip[(1,)](
        parts, step, norm, scale, matrix_rate, other_rate, train.gradient_clip, float(train.steps),
        max(train.warmup * train.steps, TINY), max(train.cooldown * train.steps, TINY), train.learning_rate,
        train.embedding_learning_rate, PARTS,
    )  # fmt: skip
    return norm, scale, matrix_rate, other_rate


def average(gradient: Tensor, scale: Tensor, momentum: Tensor, look_ahead: Tensor, beta: float) -> None:
    """Let `momentum` follow the gradient times `scale`; write Nesterov's look ahead."""
    count = momentum.numel()
    _average[(triton.cdiv(count, ELEMENTS),)](gradient, scale, momentum, look_ahead, count, beta, ELEMENTS)


def move(weight: Tensor, copy: Tensor, direction: Tensor, rate: Tensor, decay: float) -> None:
    """Move the weight against the direction; write it to `copy`, in that one's precision, too."""
    count = weight.numel()
    _move[(triton.cdiv(count, ELEMENTS),)](weight, copy, direction, rate, count, decay, ELEMENTS)


def adam(
    weight: Tensor, copy: Tensor, gradient: Tensor, scale: Tensor, mean: Tensor, square: Tensor, rate: Tensor,
    step: Tensor, betas: tuple[float, float], decay: float, epsilon: float,
) -> None:  # fmt: skip
    """NAdam with decoupled decay, of the gradient times `scale`; write the weight to `copy`, in its precision, too."""
    count = weight.numel()
    _adam[(triton.cdiv(count, ELEMENTS),)](
        weight, copy, gradient, scale, mean, square, rate, step, count, *betas, decay, epsilon, ELEMENTS
    )


def fits(rows: int, columns: int) -> bool:
    """Whether `orthogonalize` is made for matrices of this size."""
    return rows <= LARGEST[0] and columns <= LARGEST[1] and rows >= 16 and rows & (rows - 1) == 0


def orthogonalize(
    matrices: Tensor, rows: int, margin: float, coefficients: tuple[tuple[float, float, float], ...]
) -> None:
    """Move the singular values of each group of `rows` rows to about 1, in place.

    Shape: (A, rows in all, columns), each of the A blocks contiguous.
    """
    many, all_rows, columns = matrices.shape
    _orthogonalize[(many * all_rows // rows,)](
        matrices, rows, columns, all_rows // rows, matrices.stride(0), triton.next_power_of_2(columns), margin,
        coefficients,
    )  # fmt: skip


def orthogonalize_large(matrices: Tensor, margin: float, coefficients: tuple[tuple[float, float, float], ...]) -> None:
    """The same for matrices as a whole, wide or square. Shape: (A, R, C), each contiguous."""
    many, rows, columns = matrices.shape
    grams = torch.bmm(matrices, matrices.mT)
    x, gram = matrices.new_empty(matrices.shape), torch.empty_like(grams)
    _scale_to_one[(many, SHARES)](
        matrices, grams, x, gram, matrices.stride(0), rows, columns, SHARES, ROWS, triton.next_power_of_2(rows),
        triton.next_power_of_2(columns), margin, num_warps=8,
    )  # fmt: skip
    for step, (a, b, c) in enumerate(coefficients):
        if step:
            gram = torch.bmm(x, x.mT)
        x = _product(_product(gram, gram, gram, c, b), x, x, 1.0, a)
    matrices.copy_(x)


def _product(left: Tensor, right: Tensor, added: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha * left @ right + beta * added, which cuBLAS would copy first. Shapes: (A, R, I), (A, I, C), (A, R, C)."""
    many, rows, inner = left.shape
    columns, result = right.shape[2], torch.empty_like(added)
    grid = (triton.cdiv(rows, TILE), triton.cdiv(columns, TILE), many)
    _multiply_add[grid](left, right, added, result, rows, columns, inner, alpha, beta, TILE)
    return result
