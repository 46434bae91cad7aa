"""All gradients in one flat buffer: micro-batches add up in it, and ranks exchange it in one all-reduce."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from tinystories.model.gpt import GPT
from tinystories.training.distributed import Ranks

LossAndGrads = Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]


class FlatGradients:
    """The mean loss and gradients over all micro-batches and ranks. The loss is the buffer's last element.

    `target`: where the optimizer expects the gradients, if it reads them from one tensor as well.
    """

    def __init__(
        self, model: GPT, loss_and_grads: LossAndGrads, micro_batch: int, ranks: Ranks, target: Tensor | None
    ) -> None:
        weights = dict(model.named_parameters())
        sizes = [weight.numel() for weight in weights.values()]
        self._flat = torch.zeros(sum(sizes) + 1, device=model.embedding.device)
        self._loss_and_grads, self._micro_batch, self._ranks, self._target = loss_and_grads, micro_batch, ranks, target
        self._parts = self._views(weights, self._flat[:-1], sizes)
        self._grads = self._parts if target is None else self._views(weights, target, sizes)

    @staticmethod
    def _views(weights: dict[str, torch.nn.Parameter], flat: Tensor, sizes: list[int]) -> dict[str, Tensor]:
        parts = zip(weights.items(), torch.split(flat, sizes), strict=True)
        return {name: part.view_as(weight) for (name, weight), part in parts}

    @torch.no_grad()
    def compute(self, tokens: Tensor, targets: Tensor) -> None:
        """Compute this rank's share of the mean. Shapes: (B, T), B this rank's part of the batch."""
        self._flat.zero_()
        pieces = list(zip(*(torch.split(part, self._micro_batch) for part in (tokens, targets)), strict=True))
        for piece in pieces:
            with torch.enable_grad():
                loss, grads = self._loss_and_grads(*piece)
            for name, part in self._parts.items():
                part += grads[name]
            self._flat[-1] += loss
        self._flat /= len(pieces) * self._ranks.count

    def exchange(self) -> None:
        """Add up the shares of all ranks, in the same order each time. Errors: UserError where a rank is gone."""
        if self._ranks.count > 1:
            with self._ranks.failures():
                dist.all_reduce(self._flat)

    def result(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss, (), and the gradients."""
        if self._target is not None:
            self._target.copy_(self._flat[:-1])
        return self._flat[-1], self._grads
