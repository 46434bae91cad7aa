"""Cross-entropy, plain and in C++, compared with PyTorch's in fp64. Needs a C++ compiler."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.ops import cross_entropy

BF16, FP32 = torch.bfloat16, torch.float32
TOLERANCES = {FP32: 1e-5, BF16: 2**-6}  # bf16: five roundings of up to 2^-9 on the way to an embedding gradient


@pytest.fixture(scope="module", autouse=True)
def all_kernels(kernels):
    if not all(compile_kernels(16, dtype) for dtype in (FP32, BF16)):
        pytest.skip("no C++ compiler")


def inputs(count: int, vocab_size: int, dtype: torch.dtype, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, an embedding and targets, among them the first token and the last; logits are of size `scale`."""
    generator = torch.Generator().manual_seed(count * vocab_size)
    x = torch.randn(count, 8, generator=generator) * scale / 8**0.5
    embedding = torch.randn(vocab_size, 8, generator=generator)
    targets = torch.randint(vocab_size, (count,), generator=generator)
    targets[0], targets[-1] = 0, vocab_size - 1
    return x.to(dtype), embedding.to(dtype), targets


def loss_and_grads(function, x: Tensor, embedding: Tensor, targets: Tensor) -> list[Tensor]:
    """Of a sum with a weight for each loss."""
    x, embedding = x.detach().requires_grad_(), embedding.detach().requires_grad_()
    losses = function(x, embedding, targets)
    weights = torch.linspace(0.1, 1.5, len(targets), dtype=losses.dtype)
    return [losses.detach(), *torch.autograd.grad((losses * weights).sum(), (x, embedding))]


def written_out(x: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """In fp64, of logits that are rounded as the model's are."""
    exact = x.double() @ embedding.double().T
    rounded = (x @ embedding.T).double()
    return F.cross_entropy(exact + (rounded - exact).detach(), targets, reduction="none")


def check(given: tuple[Tensor, Tensor, Tensor]) -> None:
    found, expected = (loss_and_grads(function, *given) for function in (cross_entropy, written_out))
    dtype = given[0].dtype
    assert [tensor.dtype for tensor in found] == [FP32, dtype, dtype]
    for mine, true, tolerance in zip(found, expected, (TOLERANCES[FP32], *2 * [TOLERANCES[dtype]]), strict=True):
        assert (mine.double() - true).abs().max() <= tolerance * max(1.0, true.abs().max().item())
    with torch.inference_mode():
        assert torch.allclose(cross_entropy(*given), found[0], atol=2e-6, rtol=2e-6)


# Vocabularies around the lengths of vectors; logits so far apart that shares are 0 and 1.
@settings(max_examples=80)
@given(st.integers(1, 9), st.integers(2, 70), st.sampled_from([BF16, FP32]), st.sampled_from([0.1, 3.0, 300.0]))
def test_cross_entropy_cpp_equals_fp64(count, vocab_size, dtype, scale):
    check(inputs(count, vocab_size, dtype, scale))


@pytest.mark.parametrize("dtype", [BF16, FP32])
def test_cross_entropy_cpp_equals_fp64_for_large_vocabulary(dtype):
    check(inputs(33, 10_000, dtype))


@pytest.mark.parametrize("dtype", [BF16, FP32])
@pytest.mark.usefixtures("without_kernels")
def test_cross_entropy_plain_equals_fp64(dtype):
    check(inputs(7, 300, dtype, 3.0))


@pytest.mark.parametrize("place", [0, 20, 36])  # the last one beyond whole vectors
@pytest.mark.parametrize("dtype", [BF16, FP32])
def test_cross_entropy_keeps_nan(dtype, place):
    """Else a training that has failed would go on."""
    x, embedding, targets = inputs(5, 37, dtype)
    embedding[place] = torch.nan
    assert cross_entropy(x, embedding, targets).isnan().all()


@pytest.mark.parametrize("target", [-1, 300, 2**40])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("way", ["kernels", "without_kernels"])
def test_cross_entropy_refuses_target_outside_vocabulary(request, target, training, way):
    request.getfixturevalue(way)
    x, embedding, targets = inputs(7, 300, FP32)
    targets[3] = target
    with torch.set_grad_enabled(training), pytest.raises(RuntimeError, match="out of bounds"):
        cross_entropy(x, embedding, targets)


@pytest.mark.slow
def test_cross_entropy_equals_when_compiled():
    """The kernel writes over the logits, which torch.compile has to know."""
    given = inputs(7, 300, FP32, 3.0)
    eager, compiled = (loss_and_grads(f, *given) for f in (cross_entropy, torch.compile(cross_entropy)))
    for mine, other in zip(eager, compiled, strict=True):
        torch.testing.assert_close(mine, other)


def test_cross_entropy_passes_opcheck():
    x, embedding, targets = inputs(3, 20, FP32)
    torch.library.opcheck(torch.ops.tinystories.cross_entropy.default, (x @ embedding.T, targets))
