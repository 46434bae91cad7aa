"""The training step: one batch, forward, backward, clip, update. It never waits for the device."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tinystories.common.params import Params
from tinystories.inference.loss_eval import EvalResult, evaluate_loss
from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import TokenArray
from tinystories.training.backend import Backend
from tinystories.training.batches import WindowSampler
from tinystories.training.gpu.cuda_graph import CudaGraph
from tinystories.training.optimizer import Optimizer

if TYPE_CHECKING:
    from tinystories.training.gpu.step import GpuStep

PREFETCH_BATCHES = 64  # read and sent to the device together: rarer, larger copies


class TrainStep:
    """Model, optimizer and data of one training, on its device.

    `loss_sum` adds up the steps' losses (nats a token) and `gradient_norm` is the last step's, before clipping; both
    stay on the device, shape (), until somebody reads them.
    """

    def __init__(self, params: Params, vocab_size: int, tokens: TokenArray, backend: Backend) -> None:
        self._backend = backend
        self._windows = WindowSampler(tokens, params.model.context_length, params.train.batch_size, params.seed)
        self.model = GPT(params.model, vocab_size, backend.dtype)
        self.model.initialize(params.seed)
        self.model.to(backend.device)
        self._fused = _fused_step(self.model, params, backend)
        if self._fused:
            from tinystories.training.gpu.optimizer import GpuOptimizer

            optimizer: Optimizer = GpuOptimizer(self.model, params.train, self._fused)
            self._loss_and_gradients, self._update = self._fused.loss_and_grads, optimizer.update
        else:
            optimizer = Optimizer(self.model, params.train)
            self._loss, self._update = self.model.loss, optimizer.update
            self._loss_and_gradients = self._by_autograd
            if backend.compiled:
                if backend.device.type == "cpu":
                    compile_kernels(params.model.head_size, backend.dtype)
                self._loss = torch.compile(self._loss)
                self._update = torch.compile(self._update)
        self._memory = optimizer.state
        self.loss_sum = torch.zeros((), device=backend.device)
        self.gradient_norm = torch.zeros((), device=backend.device)
        self._step = torch.zeros((), dtype=torch.int64, device=backend.device)
        self._first = -1  # step of the first of the batches on the device
        self._batches = torch.zeros(
            (PREFETCH_BATCHES, 2, params.train.batch_size, params.model.context_length),  # inputs and targets
            dtype=torch.int64,
            device=backend.device,
        )
        self._run = CudaGraph(self._run_once, backend.device)
        self._next = -1  # what `_step` says on the device, after the step before

    def step(self, step: int) -> None:
        """Train on the batch of this step (from 0)."""
        first = step - step % PREFETCH_BATCHES
        if first != self._first:
            rows = torch.from_numpy(self._windows.batches(first, PREFETCH_BATCHES))
            batches = torch.stack((rows[..., :-1], rows[..., 1:]), dim=1)
            if self._backend.device.type == "cuda":
                batches = batches.pin_memory()  # else the copy would wait for the device
            self._batches.copy_(batches, non_blocking=True)
            self._first = first
        if step != self._next:
            self._step.fill_(step)
        self._run()
        self._next = step + 1

    def _run_once(self) -> None:
        # Not `self._batches[...]`, for which the host would have to know the number.
        tokens, targets = self._batches.index_select(0, (self._step % PREFETCH_BATCHES).view(1))[0]
        loss, gradients = self._loss_and_gradients(tokens, targets)
        self.gradient_norm.copy_(self._update(gradients, self._step))
        self.loss_sum += loss
        self._step += 1

    def _by_autograd(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self._loss(tokens, targets)
        weights = dict(self.model.named_parameters())
        gradients = torch.autograd.grad(loss, list(weights.values()))
        return loss.detach(), dict(zip(weights, gradients, strict=True))

    def evaluate_loss(
        self, tokens: TokenArray, text_bytes: int, on_step: Callable[[], None] | None = None
    ) -> EvalResult:
        """Of all tokens of the file, with the weights as they are now."""
        # Twice the training batch: without a backward pass there is room, and it needs no parameter of its own.
        rows = 2 * self._batches.shape[2]
        loss_sum = self._fused.loss_sum if self._fused else None
        return evaluate_loss(self.model.inference_copy(), tokens, text_bytes, rows, on_step, loss_sum)

    def tensors(self) -> dict[str, Tensor]:
        """All that the steps to come depend on, by name."""
        return {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"optimizer.{name}": tensor for name, tensor in self._memory.items()},
            "loss_sum": self.loss_sum,
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave. Errors: KeyError, RuntimeError where it is of another model."""
        mine = self.tensors()
        with torch.no_grad():
            for name in mine:
                mine[name].copy_(tensors[name])
        if self._fused:
            self._fused.refresh()


def _fused_step(model: GPT, params: Params, backend: Backend) -> "GpuStep | None":
    """Where there is a GPU, Triton works (as compiling does), and the kernels are made for such a model."""
    if backend.device.type != "cuda" or not backend.compiled:
        return None
    from tinystories.training.gpu.step import GpuStep, fits  # not above: elsewhere there is no Triton

    batch_size = params.train.batch_size
    return GpuStep(model, batch_size) if fits(model, batch_size) else None
