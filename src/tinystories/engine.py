"""The training step: one batch, forward, backward, clip, update. It never waits for the device."""

import torch
from torch import Tensor

from tinystories.backend import Backend
from tinystories.model import GPT
from tinystories.optimizer import Optimizer
from tinystories.params import Params
from tinystories.tokens import TokenArray
from tinystories.windows import Windows


class Engine:
    """Model, optimizer and data of one training, on its device.

    `loss_sum` adds up the steps' losses (nats a token) and `gradient_norm` is the last step's, before clipping; both
    stay on the device, shape (), until somebody reads them.
    """

    def __init__(self, params: Params, vocab_size: int, tokens: TokenArray, backend: Backend) -> None:
        self._device = backend.device
        self._windows = Windows(tokens, params.model.context_length, params.train.batch_size, params.seed)
        self.model = GPT(params.model, vocab_size, backend.dtype)
        self.model.initialize(params.seed)
        self.model.to(backend.device)
        self._optimizer = Optimizer(self.model, params.train)
        self._loss = torch.compile(self.model.loss) if backend.compiled else self.model.loss
        self.loss_sum = torch.zeros((), device=backend.device)
        self.gradient_norm = torch.zeros((), device=backend.device)

    def step(self, step: int) -> None:
        """Train on the batch of this step (from 0)."""
        inputs, targets = (
            torch.from_numpy(ids).to(self._device, non_blocking=True) for ids in self._windows.batch(step)
        )
        loss = self._loss(inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.gradient_norm = self._optimizer.clip()
        self._optimizer.step(step)
        self.model.zero_grad()
        self.loss_sum += loss.detach()

    def tensors(self) -> dict[str, Tensor]:
        """All that the steps to come depend on, by name."""
        return {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"optimizer.{name}": tensor for name, tensor in self._optimizer.state.items()},
            "loss_sum": self.loss_sum,
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave. Errors: KeyError, RuntimeError where it is of another model."""
        mine = self.tensors()
        with torch.no_grad():
            for name in mine:
                mine[name].copy_(tensors[name])
