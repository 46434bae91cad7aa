"""Causal attention: the kernel for CPUs and the plain products, beside attention written out in fp64."""

import subprocess

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinystories import attention
from tinystories.attention import attend, compile_kernel

BF16, FP32 = torch.bfloat16, torch.float32
HEAD_SIZES = (16, 48)


@pytest.fixture
def without_kernels(monkeypatch):
    monkeypatch.setattr(attention, "_kernels", {})


@pytest.fixture(scope="module", autouse=True)
def kernels():
    """All that this file needs; they serve the whole process, so they go when the file is done."""
    before = dict(attention._kernels)
    built = [compile_kernel(size, dtype) for size in HEAD_SIZES for dtype in (FP32, BF16)]
    if not all(built):
        pytest.skip("no C++ compiler")
    yield
    attention._kernels.clear()
    attention._kernels.update(before)


def inputs(batch: int, length: int, heads: int, size: int, dtype: torch.dtype, scale: float = 1.0) -> list[Tensor]:
    """Queries, keys and values as views of one projection, as the model makes them, and a gradient of the result."""
    generator = torch.Generator().manual_seed(length)
    projected = (scale * torch.randn(batch, length, 3, heads, size, generator=generator)).to(dtype)
    gradient = torch.randn(batch, length, heads, size, generator=generator).to(dtype)
    return [*projected.unbind(2), gradient]


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    future = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    mixed: Tensor = scores.masked_fill(future, float("-inf")).softmax(-1) @ v
    return mixed.transpose(1, 2)


def result_and_gradients(function, tensors: list[Tensor]) -> list[Tensor]:
    *given, gradient = tensors
    given = [x.detach().requires_grad_() for x in given]
    result = function(*given)
    return [result.detach(), *torch.autograd.grad(result, given, gradient)]


def check(tensors: list[Tensor], tolerance: float) -> None:
    found = result_and_gradients(attend, tensors)
    expected = result_and_gradients(written_out, [x.double() for x in tensors])
    for mine, true in zip(found, expected, strict=True):
        assert mine.shape == true.shape
        assert mine.dtype == tensors[0].dtype
        assert (mine.double() - true).abs().max() <= tolerance * max(1.0, true.abs().max().item())


# Lengths around the kernel's steps of 4 and 16.
@settings(max_examples=60)
@given(
    st.integers(1, 3), st.integers(2, 70), st.integers(1, 5), st.sampled_from(HEAD_SIZES), st.sampled_from([0.1, 1, 8])
)
def test_the_kernel_computes_attention(batch, length, heads, size, scale):
    check(inputs(batch, length, heads, size, FP32, scale), 1e-5 * max(1, scale))


@pytest.mark.parametrize("size", HEAD_SIZES)
@pytest.mark.parametrize("length", [5, 16, 128])
def test_the_kernel_in_bf16_is_as_exact_as_bf16(length, size):
    check(inputs(2, length, 3, size, BF16), 2**-7)


def test_scores_far_apart_neither_overflow_nor_vanish():
    """Weights of 0 and 1, as of a head that looks at one token only; scores of thousands have fewer digits left."""
    check(inputs(2, 40, 2, 16, FP32, 40.0), 2e-3)


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.usefixtures("without_kernels")
def test_the_plain_products_compute_the_same(dtype):
    check(inputs(2, 37, 3, 16, dtype), 1e-5 if dtype == FP32 else 2**-6)


def test_any_layout_in_memory_is_taken():
    tensors = inputs(2, 20, 3, 16, FP32)
    there = result_and_gradients(attend, tensors)
    spread = [x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0) for x in tensors]
    assert all(torch.equal(a, b) for a, b in zip(there, result_and_gradients(attend, spread), strict=True))


def test_a_row_does_not_depend_on_its_batch_nor_on_the_number_of_threads():
    q, k, v, _ = inputs(3, 33, 5, 16, BF16)
    threads = torch.get_num_threads()
    together = attend(q, k, v)
    torch.set_num_threads(1)
    alone = attend(q[1:2], k[1:2], v[1:2])
    torch.set_num_threads(threads)
    assert torch.equal(together[1:2], alone)


def test_torch_takes_the_operators_for_sound():
    """Their shapes, strides and gradients, as torch.compile assumes them."""
    q, k, v, _ = inputs(1, 7, 2, 16, FP32)
    arguments = tuple(x.detach().requires_grad_() for x in (q, k, v))
    torch.library.opcheck(torch.ops.tinystories.causal_attention.default, arguments)


@pytest.mark.parametrize(("size", "dtype"), [(24, FP32), (8, BF16), (16, torch.float64)])
def test_there_is_no_kernel_for_other_sizes_and_types(size, dtype):
    assert not compile_kernel(size, dtype)


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("error", [FileNotFoundError("g++"), subprocess.CalledProcessError(1, "g++", b"", b"no omp.h")])
def test_without_a_compiler_there_is_no_kernel_and_a_word_of_it(monkeypatch, capsys, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert not compile_kernel(16, FP32)
    assert "attention" in capsys.readouterr().out
    check(inputs(2, 10, 2, 16, FP32), 1e-5)
