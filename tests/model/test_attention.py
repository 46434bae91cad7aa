"""Causal attention: the kernel for CPUs and the plain way, beside attention written out in fp64."""

import itertools
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.model import test_cross_entropy
from tests.support.reading import read_on, read_whole
from tinystories.common.params import ModelConfig
from tinystories.inference.cpu_decoder import CpuDecoder
from tinystories.model.attention import qk_norm_rope_attention
from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.norm import NORM_EPSILON
from tinystories.model.rope import ROPE_THETA, rotation

BF16, FP32 = torch.bfloat16, torch.float32
HEAD_SIZES = (16, 48)


@pytest.fixture(scope="module", autouse=True)
def all_kernels(kernels):
    if not all(compile_kernels(size, dtype) for size in HEAD_SIZES for dtype in (FP32, BF16)):
        pytest.skip("no C++ compiler")


def inputs(
    batch: int, length: int, heads: int, size: int, dtype: torch.dtype, gain: float = 1.0, scale: float = 1.0
) -> list[Tensor]:
    """A projection, gains of about `gain`, and a gradient of the result."""
    generator = torch.Generator().manual_seed(length)
    projected = scale * torch.randn(batch, length, 3, heads, size, generator=generator)
    gains = gain * (1 + 0.3 * torch.randn(2, size, generator=generator))
    gradient = torch.randn(batch, length, heads, size, generator=generator)
    return [projected.to(dtype), gains.to(dtype), gradient.to(dtype)]


def turn(projected: Tensor, gains: Tensor) -> Tensor:
    cos, sin = rotation(projected.shape[1], projected.shape[-1])
    return qk_norm_rope_attention(projected, gains, cos, sin)


def written_out(projected: Tensor, gains: Tensor) -> Tensor:
    """Pairs as complex numbers, turned by a product, which is how the paper has it."""
    length, size = projected.shape[1], projected.shape[-1]
    qk = projected[:, :, :2]
    qk = qk / (qk.square().mean(-1, keepdim=True) + NORM_EPSILON).sqrt() * gains[:, None]
    angles = torch.arange(length).double()[:, None] / ROPE_THETA ** (torch.arange(size // 2).double() * 2 / size)
    turned = (
        torch.complex(qk[..., : size // 2], qk[..., size // 2 :])
        * torch.polar(torch.ones(()).double(), angles)[:, None, None]
    )
    q, k = torch.cat((turned.real, turned.imag), -1).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT / size**0.5
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    mixed: Tensor = scores.masked_fill(future, float("-inf")).softmax(-1) @ projected[:, :, 2].transpose(1, 2)
    return mixed.transpose(1, 2)


def result_and_gradients(function, tensors: list[Tensor]) -> list[Tensor]:
    *given, gradient = tensors
    given = [x.detach().requires_grad_() for x in given]
    result = function(*given)
    return [result.detach(), *torch.autograd.grad(result, given, gradient)]


def check(tensors: list[Tensor], tolerance: float) -> None:
    found = result_and_gradients(turn, tensors)
    expected = result_and_gradients(written_out, [x.double() for x in tensors])
    for mine, true in zip(found, expected, strict=True):
        assert mine.shape == true.shape
        assert mine.dtype == tensors[0].dtype
        assert (mine.double() - true).abs().max() <= tolerance * max(1.0, true.abs().max().item())


# Lengths around the kernel's steps of 4 and 16; vectors so short that the norm's epsilon counts.
@settings(max_examples=60)
@given(
    st.integers(1, 3),
    st.integers(2, 70),
    st.integers(1, 5),
    st.sampled_from(HEAD_SIZES),
    st.sampled_from([0.1, 1, 3]),
    st.sampled_from([1, 1e-3]),
)
def test_the_kernel_computes_attention(batch, length, heads, size, gain, scale):
    check(inputs(batch, length, heads, size, FP32, gain, scale), 2e-5 * max(1, gain))


@pytest.mark.slow
@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize(("target", "flag"), [("skylake-avx512", "avx512f"), ("haswell", "avx2"), ("x86-64", "sse2")])
def test_lesser_cpus_compute_the_same(random_model, monkeypatch, tmp_path, target, flag):
    """With shorter vectors or without products of bf16: attention, and what shares its vectors, loss and decoder.

    A compiler that is told of such a CPU stands for one.
    """
    if flag not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"this CPU has no {flag}")
    compiler = tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\nexec g++ "$@" -march={target}\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert compile_kernels(16, FP32)
    for length in (2, 5, 17, 40):
        check(inputs(2, length, 3, 16, FP32), 2e-5)
    assert compile_kernels(16, BF16)
    check(inputs(2, 33, 3, 16, BF16), 2**-6)
    for dtype, vocab_size in itertools.product((FP32, BF16), (3, 16, 37)):
        test_cross_entropy.check(test_cross_entropy.inputs(5, vocab_size, dtype, scale=3.0))
    model = random_model(ModelConfig(context_length=20, embedding_size=48, layers=2, heads=3))
    for count, dtype in itertools.product((1, 2, 9), (FP32, BF16)):
        decoder = CpuDecoder(model.inference_copy(dtype), count)
        texts = [[7 * row + 1, *range(2, 2 + row), 5] for row in range(count)]
        with torch.inference_mode():
            decoder.read(list(range(count)), [text[:-1] for text in texts])
            found, expected = read_on(decoder, texts), read_whole(model, texts)
        if dtype == FP32:
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)
        assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("size", HEAD_SIZES)
@pytest.mark.parametrize("length", [5, 16, 128])
def test_the_kernel_in_bf16_is_as_exact_as_bf16(length, size):
    check(inputs(2, length, 3, size, BF16), 2**-6)


def test_scores_far_apart_neither_overflow_nor_vanish():
    """Weights of 0 and 1, as of a head that looks at one token only; scores of thousands have fewer digits left."""
    check(inputs(2, 40, 2, 16, FP32, gain=20.0), 5e-3)


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.usefixtures("without_kernels")
def test_the_plain_products_compute_the_same(dtype):
    check(inputs(2, 37, 3, 16, dtype), 2e-5 if dtype == FP32 else 2**-5)


def test_any_layout_in_memory_is_taken():
    tensors = inputs(2, 20, 3, 16, FP32)
    there = result_and_gradients(turn, tensors)
    spread = [x.permute(*reversed(range(x.dim()))).contiguous().permute(*reversed(range(x.dim()))) for x in tensors]
    assert all(torch.equal(a, b) for a, b in zip(there, result_and_gradients(turn, spread), strict=True))


def test_a_row_does_not_depend_on_its_batch_nor_on_the_number_of_threads():
    projected, gains, _ = inputs(3, 33, 5, 16, BF16)
    threads = torch.get_num_threads()
    together = turn(projected, gains)
    torch.set_num_threads(1)
    alone = turn(projected[1:2], gains)
    torch.set_num_threads(threads)
    assert torch.equal(together[1:2], alone)


def test_torch_takes_the_operators_for_sound():
    """Their shapes, strides and gradients, as torch.compile assumes them."""
    projected, gains, _ = inputs(1, 7, 2, 16, FP32)
    arguments = (projected.requires_grad_(), gains.requires_grad_(), *rotation(7, 16))
    torch.library.opcheck(torch.ops.tinystories.causal_attention.default, arguments)


@pytest.mark.parametrize("way", ["kernels", "without_kernels"])
def test_angles_for_too_few_tokens_are_refused(request, way):
    """As a text beyond the context has them. The kernel would read from beyond their memory."""
    request.getfixturevalue(way)
    projected, gains, _ = inputs(1, 20, 2, 16, FP32)
    cos, sin = rotation(10, 16)
    with pytest.raises(RuntimeError):
        qk_norm_rope_attention(projected, gains, cos, sin)


@pytest.mark.parametrize(("size", "dtype"), [(24, FP32), (8, BF16), (16, torch.float64)])
def test_there_is_no_kernel_for_other_sizes_and_types(size, dtype):
    assert not compile_kernels(size, dtype)


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("error", [FileNotFoundError("g++"), subprocess.CalledProcessError(1, "g++", b"", b"no omp.h")])
def test_without_a_compiler_there_is_no_kernel_and_a_word_of_it(monkeypatch, capsys, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert not compile_kernels(16, FP32)
    assert "attention" in capsys.readouterr().out
    check(inputs(2, 10, 2, 16, FP32), 1e-5)
