"""Scores compared with a plain loop over what the model sees as it generates."""

import math

import pytest
import torch

from tinystories.api import scoring as module
from tinystories.api.scoring import score_stories, token_losses
from tinystories.common.params import ModelConfig


@pytest.fixture(scope="module")
def model(random_model):
    return random_model().inference_copy()


def losses_plainly(model, ids):
    """The loss of each token, from the window that `generate` would have."""
    context = model.config.context_length
    window, losses = ids[:1], []
    for token in ids[1:]:
        with torch.no_grad():
            losses.append(-model(torch.tensor([window]))[0, -1].double().log_softmax(-1)[token].item())
        window = [*window, token] if len(window) < context else [*window, token][-max(context // 2, 1) :]
    return losses


@pytest.mark.parametrize("context", [2, 3, 5, 12])
def test_token_losses_are_those_of_generating(random_model, context):
    model = random_model(ModelConfig(context_length=context, embedding_size=24, layers=2, heads=2)).inference_copy()
    generator = torch.Generator().manual_seed(0)
    sequences = [[0, *torch.randint(0, 300, (size,), generator=generator).tolist()] for size in (*range(1, 30), 100)]
    for ids, found in zip(sequences, token_losses(model, sequences), strict=True):
        assert found.tolist() == pytest.approx(losses_plainly(model, ids), abs=1e-4)


def test_batches_change_nothing(model, monkeypatch):
    sequences = [[0, *range(1, size)] for size in (2, 40, 5, 9, 100)]
    together = token_losses(model, sequences)
    monkeypatch.setattr(module, "_TOKENS_AT_ONCE", 1)
    for one, other in zip(together, token_losses(model, sequences), strict=True):
        assert one.tolist() == pytest.approx(other.tolist(), abs=1e-4)


def test_score_stories(model, tokenizer, monkeypatch):
    stories = ["Lily saw Zoë 🐉.", "One day", "a" * 60]
    scores = list(score_stories(model, tokenizer, stories))
    for story, score in zip(stories, scores, strict=True):
        ids = [0, *tokenizer.encode(story).ids, 0]
        bits = [nats / math.log(2) for nats in losses_plainly(model, ids)]
        assert [bits for _, bits in score.token_bits] == pytest.approx(bits, abs=1e-3)
        assert "".join(text for text, _ in score.token_bits) == f"{story}<|endoftext|>"
        assert (score.text, score.tokens, score.bytes) == (story, len(ids) - 1, len(story.encode()))
        assert score.loss == pytest.approx(sum(bits) * math.log(2) / len(bits))
        assert score.perplexity == pytest.approx(math.exp(score.loss))
        assert score.bits_per_byte == pytest.approx(sum(bits) / len(story.encode()))
    monkeypatch.setattr(module, "_BLOCK_TOKENS", 10)
    assert [score.nats for score in score_stories(model, tokenizer, stories)] == pytest.approx(
        [score.nats for score in scores]
    )
