"""evaluate_loss, compared with a loop over single tokens."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tinystories.inference.loss_eval import EvalResult, evaluate_loss, perplexity
from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import open_tokens


def naive(model: GPT, tokens: Any) -> float:
    """The mean surprise, each token predicted from those of its window before it, one at a time."""
    length = model.config.context_length
    surprise = 0.0
    with torch.no_grad():
        for place in range(1, len(tokens)):
            start = (place - 1) // length * length
            seen = torch.tensor([[int(token) for token in tokens[start:place]]])
            surprise -= model(seen)[0, -1].double().log_softmax(-1)[int(tokens[place])].item()
    return surprise / (len(tokens) - 1)


def numbers(count: int) -> Any:
    return np.random.default_rng(0).integers(300, size=count).astype(np.uint16)


@pytest.mark.parametrize("count", [2, 5, 12, 13, 14, 24, 25, 26, 60, 100])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_evaluate_loss_equals_single_tokens(random_model, count, batch_size):
    """With and without a rest at the end: whole windows are of 12 tokens, and a token before them."""
    model, tokens = random_model(), numbers(count)
    found = evaluate_loss(model, tokens, text_bytes=500, batch_size=batch_size)
    assert found.loss == pytest.approx(naive(model, tokens), rel=1e-5)
    assert (found.tokens, found.text_bytes) == (count - 1, 500)


def test_evaluate_loss_predicts_each_token_once(random_model, monkeypatch):
    predicted: list[int] = []

    def watched(self: GPT, tokens: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        assert torch.equal(tokens.flatten() + 1, targets.flatten())
        assert tokens.shape[1] <= 12
        predicted.extend(targets.flatten().tolist())
        return torch.zeros(())

    monkeypatch.setattr(GPT, "loss", watched)
    evaluate_loss(random_model(), np.arange(200, dtype=np.uint16), text_bytes=1, batch_size=3)
    assert predicted == list(range(1, 200))


def test_evaluate_loss_of_token_file(random_model, token_file: tuple[Path, Any]):
    path, split = token_file
    tokens = open_tokens(path, split, 300)
    model = random_model()
    found = evaluate_loss(model, tokens, split.bytes, batch_size=16)
    assert found.loss == pytest.approx(naive(model, tokens), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(found.loss * (split.tokens - 1) / math.log(2) / split.bytes)


def test_eval_result_perplexity_and_bits_per_byte():
    found = EvalResult(loss=math.log(16), tokens=30, text_bytes=120)
    assert found.perplexity == pytest.approx(16)
    assert found.bits_per_byte == pytest.approx(1.0)  # 30 tokens of 4 bits, for 120 bytes


def test_perplexity_is_finite():
    assert perplexity(0.0) == 1.0
    assert math.isfinite(perplexity(1e9))


def test_evaluate_loss_stops_between_batches(random_model):
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_loss(random_model(), numbers(100), 1, batch_size=1, on_step=check)
    assert len(calls) == 2


def test_evaluate_loss_keeps_the_model(random_model):
    model = random_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    evaluate_loss(model, numbers(50), 1, batch_size=2)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    model.loss(torch.ones(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.long)).backward()
    assert model.embedding.grad is not None
