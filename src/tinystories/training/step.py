"""The training step: forward, backward, clip and update on one batch. It never waits for the device."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tinystories.common.console import info
from tinystories.common.params import Params, Train
from tinystories.inference.loss_eval import EvalResult, evaluate_loss, windows_loss
from tinystories.model.cpu_kernels import MAX_LANES, compile_kernels
from tinystories.model.gpt import GPT
from tinystories.model.ops import implementation
from tinystories.tokenization.token_files import TokenArray
from tinystories.training.backend import Backend
from tinystories.training.batches import WindowSampler
from tinystories.training.distributed import ONE_PROCESS, Ranks
from tinystories.training.gpu.cuda_graph import CudaGraph
from tinystories.training.gradients import FlatGradients
from tinystories.training.optimizer import Optimizer, OptimizerConfig
from tinystories.training.schedule import lr_factor

if TYPE_CHECKING:
    from tinystories.training.gpu.step import GpuStep

COUNTED_TOKENS = 8_000_000  # the first, from which the initial weights are drawn; counting them takes seconds
PREFETCH_BATCHES = 64  # read and sent to the device together: rarer, larger copies


class TrainStep:
    """Model, optimizer and data of one training, on its device.

    It has weights only after `initialize`, `start_from` or `load_state_dict`. `loss_sum` adds up the losses of the
    steps (nats a token) and `gradient_norm` is the last step's, before clipping. Both stay on the device until they are
    read. Shapes: ().
    """

    def __init__(
        self, params: Params, vocab_size: int, tokens: TokenArray, backend: Backend, ranks: Ranks = ONE_PROCESS
    ) -> None:
        self._ranks, self._rank_batch = ranks, params.train.batch_size // ranks.count
        device, batch_shape = backend.device, (self._rank_batch, params.model.context_length)
        self._params = params
        self._micro_batch = micro_batch_size(params.train, ranks.count)
        self._tokens = tokens
        self._sampler = WindowSampler(tokens, params.model.context_length, params.train.batch_size, params.seed)
        self.model = GPT(params.model, vocab_size, backend.dtype)
        self.model.to(device)
        self._gpu_step = _gpu_step(self.model, self._micro_batch, backend)
        self.slow_shape = describe_slow_shape(self.model, self._micro_batch, backend)
        self._build_optimizer(backend)
        self._flat_grads: FlatGradients | None = None
        if ranks.count > 1 or self._micro_batch < self._rank_batch:
            target = self._gpu_step.flat_grads if self._gpu_step else None
            self._flat_grads = FlatGradients(self.model, self._loss_and_grads, self._micro_batch, ranks, target)
        self.loss_sum = torch.zeros((), device=device)
        self.gradient_norm = torch.zeros((), device=device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._next_step = -1  # the value of `_step` on the device
        self._batches = torch.zeros((PREFETCH_BATCHES, 2, *batch_shape), dtype=torch.int64, device=device)
        self._lr_factors = torch.zeros(PREFETCH_BATCHES, device=device)
        self._first_prefetched = -1  # step of the first of these batches
        self._run = CudaGraph(self._step_body, device)
        # The all-reduce stands between two graphs: a collective of several machines is in neither.
        self._run_grads, self._run_update = (CudaGraph(body, device) for body in (self._grads_body, self._update_body))

    def _build_optimizer(self, backend: Backend) -> None:
        """Choose how loss, gradients and updates are computed."""
        config = OptimizerConfig.from_params(self._params)
        if self._gpu_step:
            from tinystories.training.gpu.optimizer import GpuOptimizer

            gpu_optimizer = GpuOptimizer(self.model, config, self._gpu_step)
            self._loss_and_grads, self._update = self._gpu_step.loss_and_grads, gpu_optimizer.update
            self._optimizer_state = gpu_optimizer.state
            return
        optimizer = Optimizer(self.model, config)
        self._loss, self._update = self.model.loss, optimizer.update
        self._loss_and_grads, self._optimizer_state = self._autograd_loss_and_grads, optimizer.state
        if backend.compiled:
            if backend.device.type == "cpu":
                compile_kernels(self.model.config.head_size, backend.dtype)
            self._loss, self._update = torch.compile(self._loss), torch.compile(self._update)

    def step(self, step: int) -> None:
        """Train on the batch of this step (from 0)."""
        first = step - step % PREFETCH_BATCHES
        if first != self._first_prefetched:
            self._prefetch(first)
        if step != self._next_step:
            self._step.fill_(step)
        if self._flat_grads:
            self._run_grads()
            self._flat_grads.exchange()
            self._run_update()
        else:
            self._run()
        self._next_step = step + 1

    def _prefetch(self, first: int) -> None:
        """Send the batches and the schedule's factors of PREFETCH_BATCHES steps to the device."""
        windows = torch.from_numpy(self._sampler.batches(first, PREFETCH_BATCHES))
        windows = windows[:, self._ranks.rank * self._rank_batch :][:, : self._rank_batch]
        batches = torch.stack((windows[..., :-1], windows[..., 1:]), dim=1)  # inputs and targets
        factors = torch.tensor([lr_factor(first + index, self._params.train) for index in range(PREFETCH_BATCHES)])
        for target, source in ((self._batches, batches), (self._lr_factors, factors)):
            # Pinned, because the copy would wait for the GPU otherwise.
            target.copy_(source.pin_memory() if target.is_cuda else source, non_blocking=True)
        self._first_prefetched = first

    def _step_body(self) -> None:
        tokens, targets = self._of_this_step(self._batches)
        self._apply(*self._loss_and_grads(tokens, targets))

    def _grads_body(self) -> None:
        assert self._flat_grads
        tokens, targets = self._of_this_step(self._batches)
        self._flat_grads.compute(tokens, targets)

    def _update_body(self) -> None:
        assert self._flat_grads
        self._apply(*self._flat_grads.result())

    def _of_this_step(self, values: Tensor) -> Tensor:
        # index_select, because the host would have to know the index for `values[...]`.
        return values.index_select(0, (self._step % PREFETCH_BATCHES).view(1))[0]

    def _apply(self, loss: Tensor, grads: Mapping[str, Tensor]) -> None:
        factor = self._of_this_step(self._lr_factors)
        self.gradient_norm.copy_(self._update(grads, self._step, factor))
        self.loss_sum += loss
        self._step += 1

    def _autograd_loss_and_grads(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self._loss(tokens, targets)
        weights = dict(self.model.named_parameters())
        grads = torch.autograd.grad(loss, list(weights.values()))
        return loss.detach(), dict(zip(weights, grads, strict=True))

    def evaluate_loss(
        self, tokens: TokenArray, text_bytes: int, on_step: Callable[[], None] | None = None
    ) -> EvalResult:
        """Evaluate the current weights on all tokens of the file."""
        # Without a backward pass there is memory for twice the batch, so that no parameter is needed.
        batch_size = 2 * self._micro_batch
        loss_sum = self._gpu_step.loss_sum if self._gpu_step else None
        return evaluate_loss(self.model.inference_copy(), tokens, text_bytes, batch_size, on_step, loss_sum)

    def slice_loss(self, windows: Tensor) -> float:
        """Evaluate the current weights on some windows, in nats a token. Shape: (windows, T + 1)."""
        if self._gpu_step and len(windows) % self._micro_batch == 0:
            loss_sum: Callable[[Tensor, Tensor], Tensor] = self._gpu_step.loss_sum
        else:
            loss_sum = partial(self.model.loss, reduction="sum")
        return windows_loss(loss_sum, windows.to(self.loss_sum.device), 2 * self._micro_batch)

    def initialize(self) -> None:
        """Draw the initial weights, from the seed and the tokens to train on."""
        model = GPT(self.model.config, self.model.vocab_size)
        model.initialize(self._params.seed, torch.from_numpy(self._tokens[:COUNTED_TOKENS].astype(np.int64)))
        self.start_from(model)

    def start_from(self, parent: GPT) -> None:
        """Take over the weights of a model of the same shape, on the CPU in fp32. The optimizer begins as always."""
        self.model.load_state_dict(parent.state_dict())
        if self._gpu_step:
            self._gpu_step.sync_compute_weights()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors that the coming steps depend on, by name; they share memory with the training."""
        return {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"optimizer.{name}": tensor for name, tensor in self._optimizer_state.items()},
            "loss_sum": self.loss_sum,
        }

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Copy the tensors of `state_dict`. Errors: KeyError, RuntimeError for those of another model."""
        own = self.state_dict()
        with torch.no_grad():
            for name in own:
                own[name].copy_(saved[name])
        if self._gpu_step:
            self._gpu_step.sync_compute_weights()


def micro_batch_size(train: Train, ranks: int) -> int:
    """Windows computed at once: a rank's whole part of the batch, or train.micro_batch_size."""
    part = train.batch_size // ranks
    return part if train.micro_batch_size == "auto" else min(train.micro_batch_size, part)


def fit_micro_batch(params: Params, vocab_size: int, tokens: TokenArray, backend: Backend, ranks: Ranks) -> Params:
    """Resolve train.micro_batch_size `auto` on a GPU: a rank's part of the batch, halved until a first step fits.

    Errors: out of memory where not even the smallest does.
    """
    part = micro = micro_batch_size(params.train, ranks.count)
    if backend.device.type != "cuda" or params.train.micro_batch_size != "auto":
        return params
    while True:
        train = params.train.model_copy(update={"batch_size": part, "micro_batch_size": micro})
        try:
            TrainStep(params.model_copy(update={"train": train}), vocab_size, tokens, backend).step(0)
            break
        except torch.OutOfMemoryError:
            if micro % 2:
                raise
            micro //= 2
        torch.cuda.empty_cache()
    if micro < part:
        info(f"A batch of {part} windows does not fit into the GPU's memory: it is computed {micro} windows at a time.")
    return params.model_copy(update={"train": params.train.model_copy(update={"micro_batch_size": micro})})


def describe_slow_shape(model: GPT, batch_size: int, backend: Backend) -> str | None:
    """Say in one line that a compiled training's shape is beyond the kernels of its device. None where it is not."""
    if not backend.compiled:
        return None
    head_size = model.config.head_size
    if backend.device.type == "cpu" and head_size % MAX_LANES:
        return (
            f"Heads of {head_size} components (model.embedding_size / model.heads) take PyTorch's attention, which is "
            f"slower: the C++ kernels are made for multiples of {MAX_LANES}."
        )
    if implementation(backend.device, backend.dtype) == "triton":
        from tinystories.training.gpu.step import LIMITS, is_supported

        if not is_supported(model, batch_size):
            return f"A model of this shape takes PyTorch's operations, which are slower: the Triton kernels {LIMITS}."
    return None


def _gpu_step(model: GPT, batch_size: int, backend: Backend) -> "GpuStep | None":
    """Choose the Triton step where there is a GPU, Triton works (as compiling does), and the kernels fit the model."""
    if implementation(backend.device, backend.dtype) != "triton" or not backend.compiled:
        return None
    from tinystories.training.gpu.step import GpuStep, is_supported  # not above: Triton exists for GPUs alone

    return GpuStep(model, batch_size) if is_supported(model, batch_size) else None
