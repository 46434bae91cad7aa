"""GPT: logits (also compared with transformers), loss, gradients, inference copies."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tinystories.common.params import ModelConfig
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.training.optimizer import Optimizer, OptimizerConfig


def some_tokens(rows: int, length: int, vocab_size: int = 300, seed: int = 0) -> torch.Tensor:
    return torch.randint(vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def fresh(config: ModelConfig, vocab_size: int = 300, seed: int = 0, dtype: torch.dtype = torch.float32) -> GPT:
    model = GPT(config, vocab_size, dtype)
    model.initialize(seed)
    return model


def test_parameter_count(config):
    width, hidden, head, layers = 24, 64, 12, 3
    block = 4 * width * width + 3 * width * hidden + 2 * width + 2 * head
    assert GPT(config, 300).parameter_count() == 300 * width + layers * block + width
    reference = ModelConfig(context_length=128, embedding_size=256, layers=8, heads=16)
    assert GPT(reference, 10_000).parameter_count() == 8_987_136


@pytest.mark.parametrize("training", [False, True])  # two ways to compute attention
@pytest.mark.parametrize("changed", [0, 5, 11])
def test_forward_is_causal(random_model, changed, training):
    model = random_model()
    tokens = some_tokens(2, 12)
    other = tokens.clone()
    other[:, changed] = (other[:, changed] + 1) % 300
    with torch.set_grad_enabled(training):
        before, after = model(tokens), model(other)
    assert torch.allclose(before[:, :changed], after[:, :changed], atol=1e-6)
    assert ((before - after)[:, changed:].abs().amax(-1) > 1e-3).all(), "each later token sees the change"


def test_forward_with_grad_equals_without(random_model):
    model = random_model()
    tokens = some_tokens(4, 12)
    plain = model(tokens)
    assert plain.requires_grad
    with torch.no_grad():
        fused = model(tokens)
    assert torch.allclose(plain, fused, atol=1e-5, rtol=1e-5)


def test_forward_depends_on_positions(random_model):
    """The same tokens in another order give another last row: attention alone would not know."""
    model = random_model()
    tokens = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        last, other = model(tokens)[0, -1], model(tokens[:, [1, 0, 2, 3]])[0, -1]
    assert (last - other).abs().max() > 1e-2


@pytest.mark.parametrize(
    "sizes",
    [
        ModelConfig(context_length=12, embedding_size=24, layers=3, heads=2),
        ModelConfig(context_length=40, embedding_size=32, layers=1, heads=1),
        ModelConfig(context_length=16, embedding_size=16, layers=2, heads=8),
    ],
    ids=str,
)
def test_forward_equals_transformers(random_model, tokenizer_file, tmp_path, sizes):
    model = random_model(sizes)
    save_checkpoint(model, tokenizer_file, tmp_path / "checkpoint")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    tokens = some_tokens(3, sizes.context_length)
    with torch.no_grad():
        ours, logits = model(tokens), theirs(tokens).logits
    assert ours.std() > 0.5
    assert torch.allclose(ours, logits, atol=1e-4, rtol=1e-4)


def test_forward_bf16_is_close(random_model):
    model = random_model()
    half = GPT(model.config, 300, torch.bfloat16)
    half.load_state_dict(model.state_dict())
    tokens = some_tokens(4, 12)
    with torch.no_grad():
        exact, rounded = model(tokens), half(tokens)
    assert rounded.dtype == torch.bfloat16
    assert all(weight.dtype == torch.float32 for weight in half.parameters())
    assert torch.nn.functional.cosine_similarity(exact.flatten(), rounded.float().flatten(), dim=0) > 0.999


def test_loss_is_mean_cross_entropy(random_model):
    model = random_model()
    tokens, targets = some_tokens(2, 12), some_tokens(2, 12, seed=1)
    with torch.no_grad():
        p = model(tokens).double().softmax(-1)
        surprise = -p.gather(-1, targets[..., None]).log()
        assert model.loss(tokens, targets).item() == pytest.approx(surprise.mean().item(), rel=1e-5)
        assert model.loss(tokens, targets, reduction="sum").item() == pytest.approx(surprise.sum().item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_reaches_every_weight(config, small_params, dtype):
    model = fresh(config, dtype=dtype)
    optimizer = Optimizer(model, OptimizerConfig.from_params(small_params))
    for step in range(3):  # from the third step on, for the output projections begin as zero
        model.zero_grad()
        model.loss(some_tokens(4, 12, seed=step), some_tokens(4, 12, seed=step + 1)).backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        assert gradients.keys() == dict(model.named_parameters()).keys()
        assert all(gradient.isfinite().all() for gradient in gradients.values())
        optimizer.update(gradients, torch.tensor(step), torch.tensor(1.0))
    assert [name for name, gradient in gradients.items() if not gradient.any()] == []


def test_inference_copy_is_independent(random_model):
    model = random_model()
    tokens = some_tokens(2, 12)
    copy = model.inference_copy()
    with torch.no_grad():
        before = model(tokens)
        assert torch.equal(copy(tokens), before)
        model.embedding.add_(1)
        model.qkv_proj.add_(1)
        assert torch.equal(copy(tokens), before)
    assert not any(weight.requires_grad for weight in copy.parameters())
    assert all(weight.requires_grad for weight in model.parameters())


def test_inference_copy_bf16(random_model):
    model = random_model()
    half = GPT(model.config, 300, torch.bfloat16)
    half.load_state_dict(model.state_dict())
    copy = half.inference_copy()
    assert all(weight.dtype == torch.bfloat16 for weight in copy.parameters())
    tokens = some_tokens(2, 12)
    with torch.no_grad():
        assert torch.allclose(copy(tokens).float(), half(tokens).float(), atol=0.1)
    assert all(weight.dtype == torch.float32 for weight in half.inference_copy(torch.float32).parameters())
