"""The training step: one batch, forward, backward, clip, update. It never waits for the device."""

import torch
from torch import Tensor

from tinystories.backend import Backend
from tinystories.kernels import compile_kernels
from tinystories.model import GPT
from tinystories.optimizer import Optimizer
from tinystories.params import Params
from tinystories.tokens import TokenArray
from tinystories.windows import Windows

BATCHES_AT_ONCE = 64  # read and sent to the device together: rarer, larger copies
WARM_STEPS = 3  # before a CUDA graph is recorded: they compile, and allocate what libraries need


class Engine:
    """Model, optimizer and data of one training, on its device.

    `loss_sum` adds up the steps' losses (nats a token) and `gradient_norm` is the last step's, before clipping; both
    stay on the device, shape (), until somebody reads them.
    """

    def __init__(self, params: Params, vocab_size: int, tokens: TokenArray, backend: Backend) -> None:
        self._backend = backend
        self._windows = Windows(tokens, params.model.context_length, params.train.batch_size, params.seed)
        self.model = GPT(params.model, vocab_size, backend.dtype)
        self.model.initialize(params.seed)
        self.model.to(backend.device)
        optimizer = Optimizer(self.model, params.train)
        self._memory = optimizer.state
        self._loss = self.model.loss
        self._update = optimizer.update
        if backend.compiled:
            if backend.device.type == "cpu":
                compile_kernels(params.model.head_size, backend.dtype)
            self._loss = torch.compile(self._loss)
            self._update = torch.compile(self._update)
        self.loss_sum = torch.zeros((), device=backend.device)
        self.gradient_norm = torch.zeros((), device=backend.device)
        self._step = torch.zeros((), dtype=torch.int64, device=backend.device)
        self._first = -1  # step of the first of the batches on the device
        self._batches = torch.zeros(
            (BATCHES_AT_ONCE, params.train.batch_size, params.model.context_length + 1),
            dtype=torch.int64,
            device=backend.device,
        )
        self._graph: torch.cuda.CUDAGraph | None = None
        self._steps_done = 0

    def step(self, step: int) -> None:
        """Train on the batch of this step (from 0)."""
        first = step - step % BATCHES_AT_ONCE
        if first != self._first:
            batches = torch.from_numpy(self._windows.batches(first, BATCHES_AT_ONCE))
            if self._backend.device.type == "cuda":
                batches = batches.pin_memory()  # else the copy would wait for the device
            self._batches.copy_(batches, non_blocking=True)
            self._first = first
        self._step.fill_(step)
        if self._backend.device.type == "cuda":
            self._run_graph()
        else:
            self._run()

    def _run_graph(self) -> None:
        """Launch the step's two hundred operations as one: one by one, launching takes longer than computing."""
        if self._graph is None and self._steps_done == WARM_STEPS:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._run()
        if self._graph is None:
            self._run()
        else:
            self._graph.replay()
        self._steps_done += 1

    def _run(self) -> None:
        # Not `self._batches[...]`, for which the host would have to know the number.
        batch = self._batches.index_select(0, (self._step % BATCHES_AT_ONCE).view(1))[0]
        loss = self._loss(batch[:, :-1], batch[:, 1:])
        weights = dict(self.model.named_parameters())
        gradients = torch.autograd.grad(loss, list(weights.values()))
        norm = self._update(dict(zip(weights, gradients, strict=True)), self._step)
        self.gradient_norm.copy_(norm)
        self.loss_sum += loss.detach()

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
