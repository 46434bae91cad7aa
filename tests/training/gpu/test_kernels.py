"""The GPU's kernels in Triton's interpreter, in fp32: the same sources, computed by NumPy. What a GPU makes of them in
bf16, and how fast, is for `python -m benchmarks.gpu`."""

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinystories.common.params import ModelConfig, Params
from tinystories.model.attention import causal_attention
from tinystories.model.gpt import GPT
from tinystories.model.norm import NORM_EPSILON, norm
from tinystories.model.rope import apply_rope, rope_cos_sin
from tinystories.training.optimizer import MATRICES, Optimizer

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("with a GPU the kernels are compiled for it", allow_module_level=True)

few_examples = settings(max_examples=15)


@pytest.fixture(scope="module", autouse=True)
def interpreter():
    """Triton decides when the kernels are imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        importlib.import_module("tinystories.training.gpu.optimizer")
        # Programs one after the other: fewer of them, each with more to do.
        patch.setattr(kernels("pointwise"), "PARTS", 3)
        patch.setattr(kernels("optimizer"), "PARTS", 4)
        yield


def kernels(name: str) -> Any:
    return importlib.import_module(f"tinystories.model.cpu_kernels.{name}_gpu")


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def unwritten(*size: int) -> Tensor:
    return torch.full(size, float("nan"))


def assert_near(found: Tensor, expected: Tensor, allowed: float = 1e-5) -> None:
    assert (found - expected).norm() <= allowed * expected.norm(), ((found - expected).norm(), expected.norm())


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("length", [1, 5, 16, 63, 64, 65, 100, 128])
def test_attention_is_that_of_plain_operations(length, size):
    batch, heads = 2, 2
    projected, gains = random(batch, length, 3, heads, size), 1 + 0.3 * random(2, size)
    gradient = random(batch, length, heads, size, seed=1)
    cos, sin = rope_cos_sin(length, size)

    projected.requires_grad_()
    gains.requires_grad_()
    q, k, v = projected.unbind(2)
    q, k = (apply_rope(norm(x, gain), cos[:, None], sin[:, None]) for x, gain in zip((q, k), gains, strict=True))
    expected = causal_attention(q, k, v)
    of_projected, of_gains = torch.autograd.grad(expected, (projected, gains), gradient)

    inputs = projected.detach(), gains.detach(), cos, sin
    mixed, lse = unwritten(batch, length, heads, size), unwritten(batch, heads, length)
    kernels("attention").forward(*inputs, mixed, lse)
    assert_near(mixed, expected.detach())
    found, parts = unwritten(*projected.shape), unwritten(batch, heads, 2, size)
    kernels("attention").backward(*inputs, mixed, lse, gradient, found, parts)
    assert_near(found, of_projected)
    torch.testing.assert_close(parts.sum((0, 1)), of_gains, rtol=1e-4, atol=1e-4)  # 0 where a token sees itself alone


@few_examples
@given(count=st.integers(1, 40), width=st.integers(1, 70), with_change=st.booleans())
def test_a_norm_and_its_gradient(count, width, with_change):
    pointwise = kernels("pointwise")
    x, change, gain = random(count, width), random(count, width, seed=1), 1 + 0.3 * random(width)
    gradient, beside = random(count, width, seed=2), random(count, width, seed=3)
    total = x + change if with_change else x
    written, normed = unwritten(count, width), unwritten(count, width)
    pointwise.norm_forward(x, change if with_change else None, gain, written, normed)
    if with_change:
        assert torch.equal(written, total)
    expected = F.rms_norm(total, (width,), gain, NORM_EPSILON)
    assert_near(normed, expected)

    total.requires_grad_()
    gain.requires_grad_()
    of_x, of_gain = torch.autograd.grad(F.rms_norm(total, (width,), gain, NORM_EPSILON), (total, gain), gradient)
    found, parts, summed = unwritten(count, width), unwritten(1, pointwise.PARTS, width), unwritten(1, width)
    pointwise.norm_backward(total.detach(), gain.detach(), gradient, beside if with_change else None, found, parts[0])
    torch.testing.assert_close(found, of_x + beside if with_change else of_x, rtol=1e-3, atol=1e-4)
    pointwise.sum_parts(parts, summed)
    torch.testing.assert_close(summed[0], of_gain, rtol=1e-3, atol=1e-4)


@few_examples
@given(count=st.integers(1, 30), width=st.integers(1, 90))
def test_swiglu_and_its_gradient(count, width):
    projected, gradient = random(count, 2 * width).requires_grad_(), random(count, width, seed=1)
    gate, up = projected.chunk(2, dim=-1)
    expected = F.silu(gate) * up
    (of_projected,) = torch.autograd.grad(expected, projected, gradient)
    hidden, found = unwritten(count, width), unwritten(count, 2 * width)
    kernels("pointwise").swiglu_forward(projected.detach(), hidden)
    assert_near(hidden, expected.detach())
    kernels("pointwise").swiglu_backward(projected.detach(), gradient, found)
    assert_near(found, of_projected)


@pytest.mark.parametrize("vocabulary", [2, 300, 2048, 5000])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_cross_entropy_and_its_gradient(vocabulary, scale):
    logits = (scale * random(7, vocabulary)).requires_grad_()
    targets = torch.randint(vocabulary, (7,), generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(logits, targets, reduction="none")
    (of_logits,) = torch.autograd.grad(expected.mean(), logits)
    found, losses = logits.detach().clone(), unwritten(7)
    kernels("pointwise").cross_entropy(found, targets, losses)
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(found, of_logits)


@few_examples
@given(tokens=st.lists(st.integers(0, 11), min_size=1, max_size=60))
def test_rows_of_one_token_are_added_up(tokens):
    ids = torch.tensor(tokens)
    table, rows = random(12, 20), random(len(tokens), 20, seed=1)
    expected = table.index_add(0, ids, rows)
    ordered, order = ids.int().sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(13, dtype=torch.int32), out_int32=True)
    kernels("pointwise").add_rows(table, rows, order, starts)
    torch.testing.assert_close(table, expected)


def model_with_random_weights(config: ModelConfig, vocab_size: int = 97) -> GPT:
    model = GPT(config, vocab_size)
    model.initialize(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


@pytest.mark.parametrize("layers", [1, 3])
def test_loss_and_gradients_are_those_of_autograd(layers):
    from tinystories.training.gpu.step import GpuStep

    model = model_with_random_weights(ModelConfig(context_length=12, embedding_size=32, layers=layers, heads=2))
    step = GpuStep(model, batch_size=3)
    for seed in range(2):  # the second time on the buffers of the first
        ids = torch.randint(97, (3, 13), generator=torch.Generator().manual_seed(seed))
        expected = model.loss(ids[:, :-1], ids[:, 1:])
        gradients = torch.autograd.grad(expected, list(model.parameters()))
        loss, found = step.loss_and_grads(ids[:, :-1], ids[:, 1:])
        torch.testing.assert_close(loss, expected.detach())
        for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
            assert found[name].shape == weight.shape
            assert_near(found[name], gradient)
    some = torch.randint(97, (6, 13), generator=torch.Generator().manual_seed(9))
    total = step.loss_sum(some[:, :-1], some[:, 1:])
    torch.testing.assert_close(total, model.loss(some[:, :-1], some[:, 1:], "sum").detach())


def test_weights_that_were_taken_over_are_used_after_a_refresh():
    from tinystories.training.gpu.step import GpuStep

    config = ModelConfig(context_length=8, embedding_size=32, layers=1, heads=2)
    model, other = model_with_random_weights(config), GPT(config, 97)
    other.initialize(3)
    step = GpuStep(model, batch_size=1)
    ids = torch.arange(9)[None]
    model.load_state_dict(other.state_dict())
    step.refresh()
    loss = step.loss_sum(ids[:, :-1], ids[:, 1:])
    torch.testing.assert_close(loss, other.loss(ids[:, :-1], ids[:, 1:], "sum").detach())


# Matrices of a head or of some neurons in one program, larger ones in many, tall ones, for which there is no kernel.
@pytest.mark.parametrize("largest", [(64, 512), (16, 512), (8, 8)])
@pytest.mark.parametrize(
    "changed", [{}, {"weight_decay": 0.2}, {"gradient_clip": 0.0}, {"warmup": 0.0, "cooldown": 0.0}]
)
def test_updates_are_those_of_the_optimizer(small_params: Params, monkeypatch, changed, largest):
    from tinystories.training.gpu.optimizer import GpuOptimizer
    from tinystories.training.gpu.step import GpuStep

    monkeypatch.setattr(kernels("optimizer"), "LARGEST", largest)
    train = small_params.train.model_copy(update={"epochs": 1, "steps_per_epoch": 8, "warmup": 0.2, **changed})
    config = ModelConfig(context_length=8, embedding_size=32, layers=2, heads=2)
    plain, fused = model_with_random_weights(config), model_with_random_weights(config)
    before = {name: weight.detach().clone() for name, weight in plain.named_parameters()}
    step = GpuStep(fused, batch_size=1)
    optimizers = Optimizer(plain, train), GpuOptimizer(fused, train, step)
    ids = torch.arange(9)[None]
    _, gradients = step.loss_and_grads(ids[:, :-1], ids[:, 1:])
    for number in range(3):
        step.flat_grads.copy_(random(len(step.flat_grads), seed=number) * 0.01)
        given = {name: gradient.clone() for name, gradient in gradients.items()}
        expected = optimizers[0].update(given, torch.tensor(number))
        norm = optimizers[1].update(gradients, torch.tensor(number))
        torch.testing.assert_close(norm, expected)
    changes = {name: weight.detach() - before[name] for name, weight in plain.named_parameters()}
    for name, weight in fused.named_parameters():
        assert_near(weight.detach() - before[name], changes[name], 1e-3 if name in MATRICES else 1e-4)
        if name in step.copies:
            assert torch.equal(step.copies[name], weight)
    for name, memory in optimizers[0].state.items():
        assert_near(optimizers[1].state[name], memory)


def test_only_what_the_kernels_are_made_for():
    from tinystories.training.gpu.step import fits

    def fit(batch_size: int = 32, dtype: torch.dtype = torch.bfloat16, **changed: int) -> bool:
        config = ModelConfig(**{"context_length": 128, "embedding_size": 256, "layers": 1, "heads": 16, **changed})
        with torch.device("meta"):
            return fits(GPT(config, 300, dtype), batch_size)

    assert fit()
    assert not fit(context_length=129)
    assert not fit(heads=8, embedding_size=384)  # heads of 48
    assert not fit(dtype=torch.float32)
    assert not fit(embedding_size=2048, heads=32)
    assert not fit(batch_size=100_000)
