"""The optimizer on a GPU: what optimizer.py computes, in a third of the operations, and most of them side by side."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tinystories.common.params import Train
from tinystories.model.gpt import GPT
from tinystories.training.gpu import muon as optimizer_gpu
from tinystories.training.gpu.cuda_graph import SideStream
from tinystories.training.gpu.step import GpuStep
from tinystories.training.optimizer import (
    ADAM_EPSILON,
    BETA1,
    BETA2,
    MATRICES,
    MOMENTUM,
    POLAR_EXPRESS,
    POLAR_EXPRESS_MARGIN,
    Optimizer,
    groups,
    muon_scale,
    orthogonalize,
)


class GpuOptimizer(Optimizer):
    """Takes the gradients of `step`, and keeps its copies of the weights up to date."""

    def __init__(self, model: GPT, train: Train, step: GpuStep) -> None:
        super().__init__(model, train)
        self._copies, self._gradients = step.copies, step.flat_grads
        device = model.embedding.device
        self._values = SideStream(device)
        self._beside = {name: SideStream(device) for name in MATRICES}

    @torch.no_grad()
    def update(self, gradients: Mapping[str, Tensor], step: Tensor) -> Tensor:
        """As `Optimizer.update`, with the gradients that the step has given."""
        norm, scale, matrix_rate, other_rate = optimizer_gpu.clip(self._gradients, step, self._train)
        for name in MATRICES:
            with self._beside[name].start():
                self._fused_muon(name, gradients[name], scale, matrix_rate)
        # It is the first to be done, and these move much memory, as the beginning of the others does.
        with self._beside["gate_up_proj"].start():
            for name in (name for name in gradients if name not in MATRICES):
                self._fused_adam(name, gradients[name], scale, other_rate, step)
        for beside in self._beside.values():
            beside.wait()
        return norm

    def _fused_muon(self, name: str, gradient: Tensor, scale: Tensor, rate: Tensor) -> None:
        direction = torch.empty_like(gradient, dtype=self._matrix_dtype)
        optimizer_gpu.average(gradient, scale, self.state[f"momentum.{name}"], direction, MOMENTUM)
        (first, rows), *others = groups(name, direction, self._head_size)
        if others:
            with self._values.start():
                for part, rows_of_part in others:
                    self._orthogonalize(part.flatten(1, -2), rows_of_part)
        self._orthogonalize(first.flatten(1, -2), rows)
        if others:
            self._values.wait()
        weight, copy = self._weights[name], self._copies[name]
        optimizer_gpu.move(weight, copy, direction, rate, self._train.weight_decay)

    def _orthogonalize(self, update: Tensor, rows: int) -> None:
        """In place. Shape: (L, rows in all, columns), each layer's part contiguous."""
        all_rows, columns = update.shape[1:]
        if optimizer_gpu.fits(rows, columns):
            optimizer_gpu.orthogonalize(update, rows, POLAR_EXPRESS_MARGIN, POLAR_EXPRESS)
        elif rows == all_rows and rows <= columns:
            optimizer_gpu.orthogonalize_large(update, POLAR_EXPRESS_MARGIN, POLAR_EXPRESS)
        else:
            grouped = orthogonalize(update.reshape(-1, rows, columns), self._matrix_dtype)
            update.copy_(grouped.reshape(update.shape))
        if (scale := muon_scale(rows, columns)) != 1:
            update.mul_(scale)

    def _fused_adam(self, name: str, gradient: Tensor, scale: Tensor, rate: Tensor, step: Tensor) -> None:
        weight, mean, square = self._weights[name], self.state[f"mean.{name}"], self.state[f"square.{name}"]
        copy, decay = self._copies.get(name, weight), self._train.weight_decay if name == "embedding" else 0.0
        optimizer_gpu.adam(weight, copy, gradient, scale, mean, square, rate, step, (BETA1, BETA2), decay, ADAM_EPSILON)
