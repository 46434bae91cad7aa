"""The initial weights: their sizes, alike tokens, heads that attend back, the block that copies, the first loss."""

import math

import pytest
import torch

from tests.model.test_gpt import fresh, some_tokens
from tinystories.common.params import ModelConfig
from tinystories.model.attention import qk_norm_rope_attention
from tinystories.model.gpt import GPT
from tinystories.model.norm import norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [64, 256, 1024])
def test_loss_starts_at_uniform_guess(dtype, width):
    model = fresh(ModelConfig(context_length=32, embedding_size=width, layers=2, heads=4), 5_000, dtype=dtype)
    with torch.no_grad():
        loss = model.loss(some_tokens(8, 32, 5_000), some_tokens(8, 32, 5_000, seed=1))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(5_000), rel=0.02)


def test_initialize_depends_on_seed(config):
    first, again, other = (fresh(config, seed=seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in ("embedding", "qkv_proj", "gate_up_proj"))


def test_initialize_std():
    model = fresh(ModelConfig(context_length=8, embedding_size=128, layers=2, heads=2), 1_000)
    assert model.embedding[:, 1:].std().item() == pytest.approx(0.2, rel=0.02)
    assert model.qkv_proj[0, :, :, 1:].std().item() == pytest.approx(0.25 * 128**-0.5, rel=0.02)
    assert model.gate_up_proj.std().item() == pytest.approx(0.25 * 128**-0.5, rel=0.02)
    assert not model.o_proj[0].any()
    assert not model.down_proj.any()


def test_all_tokens_have_one_component_in_common_which_changes_no_logit(config):
    model = fresh(config)
    assert (model.embedding[:, 0] == model.embedding[0, 0]).all() and model.embedding[0, 0] > 0
    with torch.no_grad():
        logits = model(some_tokens(2, 12))
        model.embedding[:, 0] += 1e-6  # so little that the norms before it do not see it
        assert not model.final_norm[0] and torch.allclose(model(some_tokens(2, 12)), logits, atol=1e-4)


@pytest.mark.parametrize("layer", [0, 2])
def test_half_of_the_heads_attend_a_fixed_distance_back(layer):
    """Values that say their position show how much each query attends to each token."""
    length = head_size = 16
    model = fresh(ModelConfig(context_length=length, embedding_size=96, layers=3, heads=6))
    x = norm(model.embedding[some_tokens(64, length)], model.attn_norm[layer])
    qkv = torch.einsum("btd,wed->btwe", x, model.qkv_proj[layer]).unflatten(-1, (6, head_size)).contiguous()
    qkv[:, :, 2] = torch.eye(length)[:, None]
    weights = torch.stack((model.q_norm[layer], model.k_norm[layer]))
    with torch.no_grad():
        attended = qk_norm_rope_attention(qkv, weights, model.rope_cos, model.rope_sin).mean(0)  # (T, H, S)
    last = attended[-1]
    assert [length - 1 - int(head.argmax()) for head in last[:3]] == [1, 2, 3]
    assert (last[:3].amax(-1) > 3 / length).all() and (last[3:].amax(-1) < 2 / length).all()


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_the_middle_block_copies_what_it_attends_to(layers):
    model = fresh(ModelConfig(context_length=8, embedding_size=64, layers=layers, heads=4))
    together = model.o_proj @ model.qkv_proj[:, 2]
    middle = layers // 2
    assert torch.allclose(together[middle], together[middle, 0, 0] * torch.eye(64), atol=1e-6)
    assert together[middle, 0, 0] > 0
    assert not together[[layer for layer in range(layers) if layer != middle]].any()


def test_loss_starts_at_the_frequencies_of_the_tokens():
    config = ModelConfig(context_length=32, embedding_size=128, layers=2, heads=4)
    probabilities = 1 / torch.arange(1, 501)
    probabilities /= probabilities.sum()
    tokens = torch.multinomial(probabilities, 60_000, replacement=True, generator=torch.Generator().manual_seed(0))
    model = GPT(config, 500)
    model.initialize(1, tokens)
    inputs, targets = tokens[:2048].view(64, 32), tokens[1:2049].view(64, 32)
    with torch.no_grad():
        loss = model.loss(inputs, targets).item()
    entropy = -(probabilities * probabilities.log()).sum().item()
    assert loss == pytest.approx(entropy, rel=0.06) and loss < 0.9 * math.log(500)


def test_alike_tokens_begin_alike_unless_they_are_a_crowd():
    """`1 x 2`, where x is 3 or 4, and `5 y 6`, where y is one of thirty."""
    draw = torch.rand(2_000, 2, generator=torch.Generator().manual_seed(0)).tolist()
    text = [token for x, y in draw for token in (1, 3 + int(2 * x), 2, 0, 0, 0, 0, 5, 10 + int(30 * y), 6, 0, 0, 0, 0)]
    model = GPT(ModelConfig(context_length=32, embedding_size=128, layers=2, heads=4), 40)
    model.initialize(1, torch.tensor(text))
    rows = torch.nn.functional.normalize(model.embedding[:, 1:])
    alike = (rows @ rows.T).detach()
    crowd = alike[10:, 10:][~torch.eye(30, dtype=torch.bool)]
    assert alike[3, 4] > 0.9
    assert 0.1 < crowd.mean() < 0.6 and crowd.max() < 0.75
