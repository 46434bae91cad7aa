"""Scoring a model on a whole token file: loss, perplexity, bits per byte."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import TokenArray


@dataclass(frozen=True)
class EvalResult:
    """`loss` in nats a token over `tokens` predicted tokens, which stand for `text_bytes` bytes of stories."""

    loss: float
    tokens: int
    text_bytes: int

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.loss)

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers. The end-of-text tokens' cost counts, their bytes do not."""
        return self.loss * self.tokens / self.text_bytes / math.log(2)


def perplexity(loss: float) -> float:
    """exp(loss in nats a token), e^700 at most: beyond that a float ends."""
    return math.exp(min(loss, 700.0))


@torch.inference_mode()
def evaluate_loss(
    model: GPT,
    tokens: TokenArray,
    text_bytes: int,
    batch_size: int,
    on_step: Callable[[], None] | None = None,
    loss_sum: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> EvalResult:
    """Score every token of the file once, in windows side by side; only the first, an end-of-text, is not predicted.

    `tokens` has shape (tokens,). `on_step` is called after each batch and may raise, to stop early. `loss_sum`
    computes what `model.loss` does of a whole batch, faster.
    """
    length = model.config.context_length
    device = model.embedding.device
    predicted = len(tokens) - 1
    whole = predicted // length
    # Each batch is summed on the device in fp32, the batches here in fp64: no drift over millions of tokens.
    sums = []
    for first in range(0, whole, batch_size):
        count = min(batch_size, whole - first)
        inputs, targets = _windows(tokens[first * length : (first + count) * length + 1], count, device)
        if loss_sum and count == batch_size:
            sums.append(loss_sum(inputs, targets))
        else:
            sums.append(model.loss(inputs, targets, reduction="sum"))
        if on_step:
            on_step()
    if predicted % length:
        sums.append(model.loss(*_windows(tokens[whole * length :], 1, device), reduction="sum"))
    total = torch.stack(sums).double().sum().item() if device.type != "mps" else math.fsum(s.item() for s in sums)
    return EvalResult(total / predicted, predicted, text_bytes)


def _windows(tokens: TokenArray, rows: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets. Shapes: (rows, T)."""
    ids = torch.from_numpy(tokens.astype(np.int64)).to(device)
    return ids[:-1].view(rows, -1), ids[1:].view(rows, -1)
