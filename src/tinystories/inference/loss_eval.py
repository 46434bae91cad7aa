"""Evaluating a model: loss, perplexity, bits per byte on a whole token file, the loss on some windows of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import TokenArray


@dataclass(frozen=True)
class EvalResult:
    """`loss` in nats per token, over `tokens` predicted tokens that encode `text_bytes` bytes of stories."""

    loss: float
    tokens: int
    text_bytes: int

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.loss)

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers. The loss of the end-of-text tokens counts, their bytes do not."""
        return self.loss * self.tokens / self.text_bytes / math.log(2)


def perplexity(loss: float) -> float:
    """exp(loss in nats per token), at most e^700: beyond that, a float overflows."""
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
    """Predict every token of the file once, in consecutive windows; all but the first, an end-of-text.

    `tokens` has shape (tokens,). `on_step` is called after each batch and may raise, to stop early. `loss_sum` replaces
    `model.loss` for full batches where it is faster.
    """
    length = model.config.context_length
    device = model.embedding.device
    predicted = len(tokens) - 1
    num_full_windows = predicted // length
    # Each batch is summed on the device in fp32, the batches here in fp64: no drift over millions of tokens.
    sums = []
    for first in range(0, num_full_windows, batch_size):
        count = min(batch_size, num_full_windows - first)
        inputs, targets = _windows(tokens[first * length : (first + count) * length + 1], count, device)
        if loss_sum and count == batch_size:
            sums.append(loss_sum(inputs, targets))
        else:
            sums.append(model.loss(inputs, targets, reduction="sum"))
        if on_step:
            on_step()
    if predicted % length:
        sums.append(model.loss(*_windows(tokens[num_full_windows * length :], 1, device), reduction="sum"))
    total = torch.stack(sums).double().sum().item() if device.type != "mps" else math.fsum(s.item() for s in sums)
    return EvalResult(total / predicted, predicted, text_bytes)


@torch.inference_mode()
def windows_loss(
    loss_sum: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], windows: torch.Tensor, batch_size: int
) -> float:
    """The mean loss of windows that need not follow each other, by the sum over a batch. Shape: (windows, T + 1)."""
    sums = [loss_sum(batch[:, :-1], batch[:, 1:]) for batch in torch.split(windows, batch_size)]
    return math.fsum(torch.stack(sums).tolist()) / windows[:, 1:].numel()


def _windows(tokens: TokenArray, rows: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets. Shapes: (rows, T)."""
    ids = torch.from_numpy(tokens.astype(np.int64)).to(device)
    return ids[:-1].view(rows, -1), ids[1:].view(rows, -1)
