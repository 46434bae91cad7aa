"""The optimizer on a GPU: what `Optimizer` computes, in a third of the operations, most of them in parallel.

`test_gpu_optimizer_updates_as_optimizer` in tests/training/gpu/test_gpu_step.py compares the two.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tinystories.model.gpt import GPT
from tinystories.training.gpu import muon
from tinystories.training.gpu.cuda_graph import SideStream
from tinystories.training.gpu.step import GpuStep
from tinystories.training.optimizer import (
    MATRICES,
    OptimizerConfig,
    init_state,
    muon_scale,
    orthogonalize,
    row_groups,
)


class GpuOptimizer:
    """Update all weights from the gradients of `gpu_step`, and its copies of them in the compute dtype."""

    def __init__(self, model: GPT, config: OptimizerConfig, gpu_step: GpuStep) -> None:
        self._config = config
        self._head_size = model.config.head_size
        self._weights = dict(model.named_parameters())
        self._matrix_dtype = model.compute_dtype
        self.state = init_state(model)
        self._compute_weights, self._flat_grads = gpu_step.compute_weights, gpu_step.flat_grads
        device = model.embedding.device
        self._values_stream = SideStream(device)
        self._side_streams = {name: SideStream(device) for name in MATRICES}

    @torch.no_grad()
    def update(self, grads: Mapping[str, Tensor], step: Tensor, lr_factor: Tensor) -> Tensor:
        """Update as `Optimizer.update` does; `grads` are the parts of `flat_grads`."""
        config = self._config
        grad_norm, scale, matrix_lr, other_lr = muon.grad_clip_and_lr(
            self._flat_grads, lr_factor, config.gradient_clip, config.learning_rate, config.embedding_learning_rate
        )
        for name in MATRICES:
            with self._side_streams[name].fork():
                self._muon(name, grads[name], scale, matrix_lr)
        # gate_up_proj is done first, and NAdam is limited by memory bandwidth, as the others are at their beginning.
        with self._side_streams["gate_up_proj"].fork():
            for name in (name for name in grads if name not in MATRICES):
                self._nadam(name, grads[name], scale, other_lr, step)
        for side_stream in self._side_streams.values():
            side_stream.join()
        return grad_norm

    def _muon(self, name: str, grad: Tensor, scale: Tensor, lr: Tensor) -> None:
        nesterov = torch.empty_like(grad, dtype=self._matrix_dtype)
        muon.momentum_update(grad, scale, self.state[f"momentum_buffer.{name}"], nesterov, self._config.momentum)
        (first, rows), *others = row_groups(name, nesterov, self._head_size)
        if others:
            with self._values_stream.fork():
                for part, part_rows in others:
                    self._orthogonalize(part.flatten(1, -2), part_rows)
        self._orthogonalize(first.flatten(1, -2), rows)
        if others:
            self._values_stream.join()
        weight, compute_weight = self._weights[name], self._compute_weights[name]
        muon.apply_update(weight, compute_weight, nesterov, lr, self._config.weight_decay)

    def _orthogonalize(self, update: Tensor, rows: int) -> None:
        """Orthogonalize each group of rows in place. Shape: (L, all rows, columns), contiguous for each layer."""
        all_rows, columns = update.shape[1:]
        margin, coefficients = self._config.polar_express_margin, self._config.polar_express
        if muon.is_supported(rows, columns):
            muon.orthogonalize(update, rows, margin, coefficients)
        elif rows == all_rows and rows <= columns:
            muon.orthogonalize_large(update, margin, coefficients)
        else:
            orthogonal = orthogonalize(update.reshape(-1, rows, columns), self._matrix_dtype, self._config)
            update.copy_(orthogonal.reshape(update.shape))
        if (scale := muon_scale(rows, columns)) != 1:
            update.mul_(scale)

    def _nadam(self, name: str, grad: Tensor, scale: Tensor, lr: Tensor, step: Tensor) -> None:
        config, weight = self._config, self._weights[name]
        compute_weight = self._compute_weights.get(name, weight)
        exp_avg, exp_avg_sq = self.state[f"exp_avg.{name}"], self.state[f"exp_avg_sq.{name}"]
        betas, weight_decay = (config.beta1, config.beta2), config.weight_decay if name == "embedding" else 0.0
        muon.nadam(
            weight, compute_weight, grad, scale, exp_avg, exp_avg_sq, lr, step, betas, weight_decay, config.epsilon
        )
