"""The optimizer: Muon for the blocks' matrices, AdamW for the embedding and the norms' gains.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) moves each matrix by its averaged gradient with
all singular values made about 1. AdamW: Loshchilov & Hutter 2019.
"""

import torch
from torch import Tensor

from tinystories.model import GPT
from tinystories.params import Train

MATRICES = ("attention_in", "attention_out", "feed_forward_in", "feed_forward_out")
MOMENTUM = 0.95
NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients that raise small singular values fastest
BETA1 = 0.9
# A batch of 4,096 tokens is small: the second moment needs a long memory (Marek et al. 2025, arXiv 2507.07101).
BETA2 = 0.99
ADAM_EPSILON = 1e-10


def schedule(step: int, train: Train) -> float:
    """Factor on the peak learning rates at this step (from 0): up, flat, and down in a straight line to 0."""
    warm, cool = train.warmup * train.steps, train.cooldown * train.steps
    rise = (step + 1) / warm if warm else 1.0
    fall = (train.steps - step) / cool if cool else 1.0
    return min(1.0, rise, fall)


class Optimizer:
    """One update of all weights from their gradients. `state` holds its memory by name, all fp32."""

    def __init__(self, model: GPT, train: Train) -> None:
        self._train = train
        self._weights = dict(model.named_parameters())
        self.state: dict[str, Tensor] = {}
        for name, weight in self._weights.items():
            memories = ("momentum",) if name in MATRICES else ("mean", "square")
            self.state |= {f"{memory}.{name}": torch.zeros_like(weight) for memory in memories}
        # bf16 halves the cost of the iteration and loses nothing: singular values need only be near 1.
        self._matrix_dtype = model.compute_dtype

    @torch.no_grad()
    def clip(self) -> Tensor:
        """Scale all gradients down to the largest allowed norm, together; returns the norm before. Shape: ()."""
        gradients = [weight.grad for weight in self._weights.values() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._train.gradient_clip:
            torch.nn.utils.clip_grads_with_norm_(self._weights.values(), self._train.gradient_clip, norm)
        return norm

    @torch.no_grad()
    def step(self, step: int) -> None:
        """Update every weight with its gradient; `step` counts from 0."""
        factor = schedule(step, self._train)
        for name, weight in self._weights.items():
            if weight.grad is None:
                continue
            if name in MATRICES:
                self._muon(name, weight, weight.grad, factor * self._train.learning_rate)
            else:
                self._adam(name, weight, weight.grad, factor * self._train.embedding_learning_rate, step)

    def _muon(self, name: str, weight: Tensor, gradient: Tensor, rate: float) -> None:
        momentum = self.state[f"momentum.{name}"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        update = orthogonalize(gradient.lerp(momentum, MOMENTUM), self._matrix_dtype)  # Nesterov's look ahead
        # Tall matrices would otherwise change less than square ones, as seen from their input.
        rate_of_shape = rate * max(1, weight.shape[-2] / weight.shape[-1]) ** 0.5
        weight.mul_(1 - rate * self._train.weight_decay)
        weight.add_(update, alpha=-rate_of_shape)

    def _adam(self, name: str, weight: Tensor, gradient: Tensor, rate: float, step: int) -> None:
        mean, square = self.state[f"mean.{name}"], self.state[f"square.{name}"]
        mean.lerp_(gradient, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        corrected = (square / (1 - BETA2 ** (step + 1))).sqrt_().add_(ADAM_EPSILON)
        weight.addcdiv_(mean, corrected, value=-rate / (1 - BETA1 ** (step + 1)))


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Move the singular values of each matrix to about 1, by Newton-Schulz iteration. Shape: (..., rows, columns)."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.flatten(0, -3).to(dtype)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    if tall:
        x = x.mT
    update: Tensor = x.reshape(matrices.shape).to(matrices.dtype)
    return update
