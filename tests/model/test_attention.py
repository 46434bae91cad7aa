"""Attention, plain and in C++, compared with its formula in fp64. Needs a C++ compiler."""

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
from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.ops import qk_norm_rope_attention
from tinystories.model.rope import rope_cos_sin
from tinystories.model.stock_config import NORM_EPSILON, ROPE_THETA

BF16, FP32 = torch.bfloat16, torch.float32
HEAD_SIZES = (16, 48)


@pytest.fixture(scope="module", autouse=True)
def all_kernels(kernels):
    if not all(compile_kernels(size, dtype) for size in HEAD_SIZES for dtype in (FP32, BF16)):
        pytest.skip("no C++ compiler")


def inputs(
    batch: int, length: int, heads: int, size: int, dtype: torch.dtype, weight: float = 1.0, scale: float = 1.0
) -> list[Tensor]:
    """qkv, qk_norm_weight of about `weight`, and a gradient of the result."""
    generator = torch.Generator().manual_seed(length)
    qkv = scale * torch.randn(batch, length, 3, heads, size, generator=generator)
    qk_norm_weight = weight * (1 + 0.3 * torch.randn(2, size, generator=generator))
    gradient = torch.randn(batch, length, heads, size, generator=generator)
    return [qkv.to(dtype), qk_norm_weight.to(dtype), gradient.to(dtype)]


def attention(qkv: Tensor, qk_norm_weight: Tensor) -> Tensor:
    cos, sin = rope_cos_sin(qkv.shape[1], qkv.shape[-1])
    return qk_norm_rope_attention(qkv, qk_norm_weight, cos, sin)


def written_out(qkv: Tensor, qk_norm_weight: Tensor) -> Tensor:
    """RoPE by a product of complex numbers, as in the paper."""
    length, size = qkv.shape[1], qkv.shape[-1]
    qk = qkv[:, :, :2]
    qk = qk / (qk.square().mean(-1, keepdim=True) + NORM_EPSILON).sqrt() * qk_norm_weight[:, None]
    angles = torch.arange(length).double()[:, None] / ROPE_THETA ** (torch.arange(size // 2).double() * 2 / size)
    rotated = (
        torch.complex(qk[..., : size // 2], qk[..., size // 2 :])
        * torch.polar(torch.ones(()).double(), angles)[:, None, None]
    )
    q, k = torch.cat((rotated.real, rotated.imag), -1).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT / size**0.5
    causal_mask = torch.ones(length, length, dtype=torch.bool).triu(1)
    attn_out: Tensor = scores.masked_fill(causal_mask, float("-inf")).softmax(-1) @ qkv[:, :, 2].transpose(1, 2)
    return attn_out.transpose(1, 2)


def result_and_gradients(function, tensors: list[Tensor]) -> list[Tensor]:
    *given, gradient = tensors
    given = [x.detach().requires_grad_() for x in given]
    result = function(*given)
    return [result.detach(), *torch.autograd.grad(result, given, gradient)]


def check(tensors: list[Tensor], tolerance: float) -> None:
    found = result_and_gradients(attention, tensors)
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
def test_qk_norm_rope_attention_cpp_equals_fp64(batch, length, heads, size, weight, scale):
    check(inputs(batch, length, heads, size, FP32, weight, scale), 2e-5 * max(1, weight))


@pytest.mark.slow
@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize(("target", "flag"), [("skylake-avx512", "avx512f"), ("haswell", "avx2"), ("x86-64", "sse2")])
def test_kernels_equal_on_older_cpus(random_model, monkeypatch, tmp_path, target, flag):
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
            decoder.prefill(list(range(count)), [text[:-1] for text in texts])
            found, expected = read_on(decoder, texts), read_whole(model, texts)
        if dtype == FP32:
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)
        assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("size", HEAD_SIZES)
@pytest.mark.parametrize("length", [5, 16, 128])
def test_qk_norm_rope_attention_cpp_bf16_equals_fp64(length, size):
    check(inputs(2, length, 3, size, BF16), 2**-6)


def test_qk_norm_rope_attention_handles_large_scores():
    """Weights of 0 and 1, as of a head that looks at one token only; scores of thousands have fewer digits left."""
    check(inputs(2, 40, 2, 16, FP32, weight=20.0), 5e-3)


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.usefixtures("without_kernels")
def test_qk_norm_rope_attention_plain_equals_fp64(dtype):
    check(inputs(2, 37, 3, 16, dtype), 2e-5 if dtype == FP32 else 2**-5)


def test_qk_norm_rope_attention_accepts_any_strides():
    tensors = inputs(2, 20, 3, 16, FP32)
    there = result_and_gradients(attention, tensors)
    spread = [x.permute(*reversed(range(x.dim()))).contiguous().permute(*reversed(range(x.dim()))) for x in tensors]
    assert all(torch.equal(a, b) for a, b in zip(there, result_and_gradients(attention, spread), strict=True))


def test_qk_norm_rope_attention_ignores_batch_and_threads():
    qkv, qk_norm_weight, _ = inputs(3, 33, 5, 16, BF16)
    threads = torch.get_num_threads()
    together = attention(qkv, qk_norm_weight)
    torch.set_num_threads(1)
    alone = attention(qkv[1:2], qk_norm_weight)
    torch.set_num_threads(threads)
    assert torch.equal(together[1:2], alone)


def test_causal_attention_passes_opcheck():
    """Their shapes, strides and gradients, as torch.compile assumes them."""
    qkv, qk_norm_weight, _ = inputs(1, 7, 2, 16, FP32)
    arguments = (qkv.requires_grad_(), qk_norm_weight.requires_grad_(), *rope_cos_sin(7, 16))
    torch.library.opcheck(torch.ops.tinystories.causal_attention.default, arguments)


@pytest.mark.parametrize("way", ["kernels", "without_kernels"])
def test_qk_norm_rope_attention_refuses_short_tables(request, way):
    """As a text beyond the context has them. The kernel would read from beyond their memory."""
    request.getfixturevalue(way)
    qkv, qk_norm_weight, _ = inputs(1, 20, 2, 16, FP32)
    cos, sin = rope_cos_sin(10, 16)
    with pytest.raises(RuntimeError):
        qk_norm_rope_attention(qkv, qk_norm_weight, cos, sin)


@pytest.mark.parametrize(("size", "dtype"), [(24, FP32), (8, BF16), (16, torch.float64)])
def test_compile_kernels_refuses_other_sizes_and_dtypes(size, dtype):
    assert not compile_kernels(size, dtype)


@pytest.mark.usefixtures("without_kernels")
def test_compile_kernels_says_once_that_it_compiles(monkeypatch, capsys):
    monkeypatch.setattr("tinystories.model.cpu_kernels._build", lambda *_: "libc.so.6")
    for dtype in (FP32, FP32, BF16):
        assert compile_kernels(16, dtype)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Compiling the C++ kernels")


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("error", [FileNotFoundError("g++"), subprocess.CalledProcessError(1, "g++", b"", b"no omp.h")])
def test_compile_kernels_warns_without_compiler(monkeypatch, capsys, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert not compile_kernels(16, FP32)
    assert "attention" in capsys.readouterr().out
    check(inputs(2, 10, 2, 16, FP32), 1e-5)
