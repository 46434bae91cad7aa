"""The optimizer: Muon for the blocks' matrices, NAdam with decoupled decay for the embedding and the norms' gains.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) moves each matrix by its averaged gradient with
all singular values made about 1. NAdam is Adam with Nesterov's look ahead, as Muon has it, too (Dozat 2016,
https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ); decoupled decay: Loshchilov & Hutter 2019.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tinystories.common.params import MLP_MULTIPLE, Train
from tinystories.model.gpt import GPT

MATRICES = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
# Less than the usual 0.95: better after 250 steps and, by far, after 3,500 (docs/log.md).
MOMENTUM = 0.9
# Coefficients of a polynomial a x + b x³ + c x⁵ for each step, the ones that bring singular values between 0.01 and 1
# nearest to 1 in so many steps (Polar Express: Amsel et al. 2025, arXiv 2505.16932): between 0.73 and 1.27.
POLAR_EXPRESS = (
    (8.0195, -22.9987, 16.8990),
    (3.6414, -2.7254, 0.5369),
    (2.6684, -1.9829, 0.4533),
)
POLAR_EXPRESS_MARGIN = 1.02  # as bf16 rounds; beyond 1 the polynomials diverge
# Less than the usual 0.9: what an average of ten steps says comes too late for an embedding that moves so fast
# (docs/log.md).
BETA1 = 0.6
# A batch of 4,096 tokens is small: the second moment needs a long memory (Marek et al. 2025, arXiv 2507.07101).
BETA2 = 0.99
ADAM_EPSILON = 1e-10


def schedule(step: int, train: Train) -> float:
    """Factor on the peak learning rates at this step (from 0): up, flat, and down in a straight line to 0."""
    return _schedule(torch.tensor(step), train).item()


def _schedule(step: Tensor, train: Train) -> Tensor:
    warm, cool = train.warmup * train.steps, train.cooldown * train.steps
    at = step.double() if step.device.type != "mps" else step.float()
    rise = (at + 1) / warm if warm else torch.ones_like(at)
    fall = (train.steps - at) / cool if cool else torch.ones_like(at)
    return torch.minimum(rise, fall).clamp(max=1.0)


class Optimizer:
    """Updates of all weights from their gradients. `state` holds its memory by name, all fp32.

    Everything is computed on the device, the rates too: no update waits for the host, and a CUDA graph can hold it.
    """

    def __init__(self, model: GPT, train: Train) -> None:
        self._train = train
        self._head_size = model.config.head_size
        self._weights = dict(model.named_parameters())
        self.state: dict[str, Tensor] = {}
        for name, weight in self._weights.items():
            memories = ("momentum",) if name in MATRICES else ("mean", "square")
            self.state |= {f"{memory}.{name}": torch.zeros_like(weight) for memory in memories}
        # bf16 halves the cost of the iteration and loses nothing: singular values need only be near 1.
        self._matrix_dtype = model.compute_dtype

    @torch.no_grad()
    def update(self, gradients: Mapping[str, Tensor], step: Tensor) -> Tensor:
        """Update every weight that has a gradient; `step`, of shape (), counts from 0.

        Gradients are scaled down to the largest allowed norm, together. Returns their norm before that. Shape: ().
        """
        norm = torch.nn.utils.get_total_norm(list(gradients.values()))
        limit = self._train.gradient_clip
        scale = (limit / (norm + 1e-6)).clamp(max=1.0) if limit else torch.ones_like(norm)
        factor = _schedule(step, self._train).float()
        for name, gradient in gradients.items():
            if name in MATRICES:
                self._muon(name, gradient * scale, factor * self._train.learning_rate)
            else:
                self._adam(name, gradient * scale, factor * self._train.embedding_learning_rate, step)
        return norm

    def _muon(self, name: str, gradient: Tensor, rate: Tensor) -> None:
        weight, momentum = self._weights[name], self.state[f"momentum.{name}"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        direction = self._direction(name, gradient.lerp(momentum, MOMENTUM))  # Nesterov's look ahead
        weight.mul_(1 - rate * self._train.weight_decay).sub_(direction * rate)

    def _direction(self, name: str, update: Tensor) -> Tensor:
        """`update` with singular values of about 1, in groups of rows where they learn faster so."""
        parts = [self._by_group(part, rows) for part, rows in groups(name, update, self._head_size)]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def _by_group(self, update: Tensor, rows: int) -> Tensor:
        columns = update.shape[-1]
        orthogonal = orthogonalize(update.reshape(-1, rows, columns), self._matrix_dtype)
        return orthogonal.reshape(update.shape) * muon_scale(rows, columns)

    def _adam(self, name: str, gradient: Tensor, rate: Tensor, step: Tensor) -> None:
        weight, mean, square = self._weights[name], self.state[f"mean.{name}"], self.state[f"square.{name}"]
        mean.lerp_(gradient, 1 - BETA1)
        square.lerp_(gradient * gradient, 1 - BETA2)
        # Both start at zero and are too small at first.
        number = step.float() + 1
        correction, next_correction = (1 - BETA1**steps for steps in (number, number + 1))
        ahead = gradient * ((1 - BETA1) / correction) + mean * (BETA1 / next_correction)
        size = (square / (1 - BETA2**number)).sqrt() + ADAM_EPSILON
        if name == "embedding":  # not the gains, which have no reason to be small
            weight.mul_(1 - rate * self._train.weight_decay)
        weight.sub_(rate * ahead / size)


def groups(name: str, update: Tensor, head_size: int) -> list[tuple[Tensor, int]]:
    """Parts of the stacked matrices `name`, and how many rows of each are taken together (docs/log.md).

    A matrix taken as a whole moves its rows to directions of their own. Queries and keys are better off head by head
    (Zhang et al. 2026, arXiv 2605.08933), each free to look where others do; values and outputs are not. The neurons'
    rows do not mind, and in groups they take a third of the time.
    """
    if name == "qkv_proj":
        queries_and_keys, values = update[:, :2], update[:, 2:]
        return [(queries_and_keys, head_size), (values, values.shape[-2])]
    return [(update, MLP_MULTIPLE if name == "gate_up_proj" else update.shape[-2])]


def muon_scale(rows: int, columns: int) -> float:
    """Of a group's step: tall ones would otherwise change less than square ones, as seen from their input."""
    return math.sqrt(max(1.0, rows / columns))


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Move the singular values of each matrix to about 1, by products alone. Shape: (..., rows, columns)."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.flatten(0, -3).to(dtype)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # so that no square under- or overflows
    gram = x @ x.mT
    # No singular value exceeds the fourth root of the sum of their fourth powers, and the largest comes near to it.
    # Scaled by it the others are several times as large as scaled by the norm, which saves a step.
    bound = gram.float().norm(dim=(-2, -1), keepdim=True).sqrt() * POLAR_EXPRESS_MARGIN + 1e-7
    x, gram = (x / bound).to(dtype), (gram / bound.square()).to(dtype)
    for step, (a, b, c) in enumerate(POLAR_EXPRESS):
        if step:
            gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    if tall:
        x = x.mT
    update: Tensor = x.reshape(matrices.shape).to(matrices.dtype)
    return update
