"""The optimizer: Muon for the blocks' matrices, NAdam with decoupled weight decay for the embedding and norm weights.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) updates each matrix by its momentum with all
singular values set to about 1. NAdam is Adam with Nesterov momentum, which Muon has too (Dozat 2016,
https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ). Decoupled weight decay: Loshchilov & Hutter 2019.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tinystories.common.params import MLP_MULTIPLE, Params
from tinystories.model.gpt import GPT

MATRICES = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")  # updated by Muon

# NAdam's epsilon, times the number of tokens in a batch. So multiplied, a token that stands in the batch once has
# gradients of about 0.5, one that does not a hundredth of that or less. A usual epsilon makes full steps of both, and
# the embeddings of rare tokens walk at random (docs/log.md).
TOKEN_EPSILON = 0.041


@dataclass(frozen=True)
class OptimizerConfig:
    """Hyperparameters of both optimizers, `Optimizer` and `GpuOptimizer`."""

    learning_rate: float  # peak, of the matrices
    embedding_learning_rate: float  # peak, of all other weights
    weight_decay: float
    gradient_clip: float  # largest norm of all gradients together; 0: no clipping
    # Muon. Less than the usual 0.95: better after 250 steps and, by far, after 3,500 (docs/log.md).
    momentum: float = 0.9
    # Coefficients of a polynomial a x + b x³ + c x⁵ for each iteration, the ones that bring singular values between
    # 0.01 and 1 nearest to 1 in so many iterations (Polar Express: Amsel et al. 2025, arXiv 2505.16932): between 0.73
    # and 1.27.
    polar_express: tuple[tuple[float, float, float], ...] = (
        (8.0195, -22.9987, 16.8990),
        (3.6414, -2.7254, 0.5369),
        (2.6684, -1.9829, 0.4533),
    )
    polar_express_margin: float = 1.02  # because bf16 rounds; beyond 1 the polynomials diverge
    # NAdam. Less than the usual 0.9: an average over ten steps lags behind an embedding that moves so fast
    # (docs/log.md).
    beta1: float = 0.6
    # A batch of 4,096 tokens is small: the second moment needs a long memory (Marek et al. 2025, arXiv 2507.07101).
    beta2: float = 0.99
    epsilon: float = TOKEN_EPSILON / 4_096

    @classmethod
    def from_params(cls, params: Params) -> Self:
        """Take the hyperparameters that params.yaml has or decides, and the defaults of the others."""
        train = params.train
        tokens = train.batch_size * params.model.context_length
        return cls(
            train.learning_rate,
            train.embedding_learning_rate,
            train.weight_decay,
            train.gradient_clip,
            epsilon=TOKEN_EPSILON / tokens,
        )


class Optimizer:
    """Update all weights from their gradients, in plain PyTorch.

    Everything is computed on the device, so no update waits for the host. `GpuOptimizer` (gpu/optimizer.py) computes
    the same in Triton; `test_gpu_optimizer_updates_as_optimizer` compares them.
    """

    def __init__(self, model: GPT, config: OptimizerConfig) -> None:
        self._config = config
        self._head_size = model.config.head_size
        self._weights = dict(model.named_parameters())
        # bf16 halves the cost of Muon's iteration and loses nothing: singular values need only be near 1.
        self._matrix_dtype = model.compute_dtype
        self.state = init_state(model)

    @torch.no_grad()
    def update(self, grads: Mapping[str, Tensor], step: Tensor, lr_factor: Tensor) -> Tensor:
        """Clip all gradients by their common norm, and update every weight that has one.

        Returns the norm before clipping. `step` counts from 0; `lr_factor` is the schedule's. Shapes of the three: ().
        """
        grad_norm = torch.nn.utils.get_total_norm(list(grads.values()))
        max_norm = self._config.gradient_clip
        scale = (max_norm / (grad_norm + 1e-6)).clamp(max=1.0) if max_norm else torch.ones_like(grad_norm)
        for name, grad in grads.items():
            if name in MATRICES:
                self._muon(name, grad * scale, lr_factor * self._config.learning_rate)
            else:
                self._nadam(name, grad * scale, lr_factor * self._config.embedding_learning_rate, step)
        return grad_norm

    def _muon(self, name: str, grad: Tensor, lr: Tensor) -> None:
        config, weight, momentum_buffer = self._config, self._weights[name], self.state[f"momentum_buffer.{name}"]
        momentum_buffer.lerp_(grad, 1 - config.momentum)
        nesterov = grad.lerp(momentum_buffer, config.momentum)
        update = self._orthogonalized_update(name, nesterov)
        weight.mul_(1 - lr * config.weight_decay).sub_(update * lr)

    def _orthogonalized_update(self, name: str, update: Tensor) -> Tensor:
        """`update` with all singular values about 1, in groups of rows where that trains faster."""
        parts = [self._by_group(part, rows) for part, rows in row_groups(name, update, self._head_size)]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def _by_group(self, update: Tensor, rows: int) -> Tensor:
        columns = update.shape[-1]
        orthogonal = orthogonalize(update.reshape(-1, rows, columns), self._matrix_dtype, self._config)
        return orthogonal.reshape(update.shape) * muon_scale(rows, columns)

    def _nadam(self, name: str, grad: Tensor, lr: Tensor, step: Tensor) -> None:
        weight = self._weights[name]
        exp_avg, exp_avg_sq = self.state[f"exp_avg.{name}"], self.state[f"exp_avg_sq.{name}"]
        beta1, beta2 = self._config.beta1, self._config.beta2
        exp_avg.lerp_(grad, 1 - beta1)
        exp_avg_sq.lerp_(grad * grad, 1 - beta2)
        # Both averages start at 0; dividing by these corrects the bias.
        steps = step.float() + 1
        bias_correction, next_bias_correction = 1 - beta1**steps, 1 - beta1 ** (steps + 1)
        nesterov = grad * ((1 - beta1) / bias_correction) + exp_avg * (beta1 / next_bias_correction)
        denom = (exp_avg_sq / (1 - beta2**steps)).sqrt() + self._config.epsilon
        if name == "embedding":  # not norm weights, which have no reason to be small
            weight.mul_(1 - lr * self._config.weight_decay)
        weight.sub_(lr * nesterov / denom)


def init_state(model: GPT) -> dict[str, Tensor]:
    """Return the state before the first step: fp32 zeros, shaped like the weights, named `<kind>.<weight>`."""
    state: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        kinds = ("momentum_buffer",) if name in MATRICES else ("exp_avg", "exp_avg_sq")
        state |= {f"{kind}.{name}": torch.zeros_like(weight) for kind in kinds}
    return state


def row_groups(name: str, update: Tensor, head_size: int) -> list[tuple[Tensor, int]]:
    """Split the stacked matrices `name` into parts, each with the number of rows that Muon orthogonalizes together.

    Orthogonalizing a whole matrix gives each of its rows another direction. Queries and keys train better head by head
    (Zhang et al. 2026, arXiv 2605.08933), because heads may then attend to the same; values and outputs do not. For the
    neurons it makes no difference, and groups take a third of the time (docs/log.md).
    """
    if name == "qkv_proj":
        queries_and_keys, values = update[:, :2], update[:, 2:]
        return [(queries_and_keys, head_size), (values, values.shape[-2])]
    return [(update, MLP_MULTIPLE if name == "gate_up_proj" else update.shape[-2])]


def muon_scale(rows: int, columns: int) -> float:
    """Return the factor on a group's update. Without it the outputs of tall groups would change less."""
    return math.sqrt(max(1.0, rows / columns))


def orthogonalize(matrices: Tensor, dtype: torch.dtype, config: OptimizerConfig) -> Tensor:
    """Set the singular values of each matrix to about 1, by matrix products alone. Shape: (..., rows, columns)."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.flatten(0, -3).to(dtype)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # so that no square under- or overflows
    gram = x @ x.mT
    # No singular value exceeds the fourth root of the sum of their fourth powers, and the largest comes near to it.
    # Scaled by it the others are several times as large as scaled by the norm, which saves an iteration.
    bound = gram.float().norm(dim=(-2, -1), keepdim=True).sqrt() * config.polar_express_margin + 1e-7
    x, gram = (x / bound).to(dtype), (gram / bound.square()).to(dtype)
    for iteration, (a, b, c) in enumerate(config.polar_express):
        if iteration:
            gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    if tall:
        x = x.mT
    update: Tensor = x.reshape(matrices.shape).to(matrices.dtype)
    return update
