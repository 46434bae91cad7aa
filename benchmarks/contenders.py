"""Contenders of a comparison of training speed: a function that does one step, and what timing it needs."""

import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.machine import synchronize
from benchmarks.peers import Peer, matrix_weights, parameter_count
from benchmarks.workload import flops_per_step
from tinystories.common.params import Params
from tinystories.tokenization.token_files import TokenArray
from tinystories.training.backend import choose_backend, tune_malloc
from tinystories.training.batches import WindowSampler
from tinystories.training.step import TrainStep

WARM_UP = 2  # steps: the first compiles, the second may compile again or record a CUDA graph

# PyTorch counts compilations by function, and all peers are compiled through the same one. Past the limit it would
# silently go on uncompiled, and we would report that as the peer's speed.
torch._dynamo.config.recompile_limit = 100
torch._dynamo.config.fail_on_recompile_limit_hit = True


@dataclass
class Contender:
    """`step(i)` trains on the batch of step i, without waiting for the device. `seconds`: of each round, a step."""

    name: str
    variant: str
    step: Callable[[int], object]
    parameters: int
    flops: float  # of a step
    device: torch.device
    steps: int = 0  # done so far
    seconds: list[float] = field(default_factory=list)

    def run(self, steps: int) -> float:
        """Do that many steps. Returns the seconds a step."""
        synchronize(self.device)
        start = time.perf_counter()
        for step in range(self.steps, self.steps + steps):
            self.step(step)
        synchronize(self.device)
        self.steps += steps
        return (time.perf_counter() - start) / steps


class SubprocessContender:
    """A contender in a process of its own, so that memory that others have fragmented does not slow it down.

    The process starts at once. Errors of `ready` and `run`: RuntimeError with what was said in that process, where the
    contender cannot be made or run.
    """

    name: str
    variant: str
    parameters: int
    flops: float

    def __init__(self, make: Callable[..., Contender], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._is_ready = self._warms_up = False
        self.steps = 0
        self.seconds: list[float] = []

    def warm_up(self) -> "SubprocessContender":
        """Start compiling and the first steps without waiting for them. Returns this contender."""
        self._connection.send(WARM_UP)
        self._warms_up = True
        return self

    def ready(self) -> "SubprocessContender":
        """Wait until it can run. Returns this contender."""
        if not self._is_ready:
            self.name, self.variant, self.parameters, self.flops = self._answer()
            self._is_ready = True
        if self._warms_up:
            self._answer()
            self.steps, self._warms_up = WARM_UP, False
        return self

    def run(self, steps: int) -> float:
        """Do that many steps. Returns the seconds a step."""
        self.ready()
        self._connection.send(steps)
        self.steps += steps
        return float(self._answer())

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            raise RuntimeError("its process was killed") from None
        if isinstance(answer, str):
            self.end()
            raise RuntimeError(answer)
        return answer


def _serve(connection: Connection, make: Callable[..., Contender], arguments: tuple[Any, ...]) -> None:
    try:
        contender = make(*arguments)
        connection.send((contender.name, contender.variant, contender.parameters, contender.flops))
        while True:
            connection.send(contender.run(connection.recv()))
    except EOFError:  # the parent has ended
        pass
    except Exception as error:  # another's package, in a combination that it may not know
        connection.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}")


def interleave(
    contenders: Sequence[Contender | SubprocessContender], rounds: int, round_seconds: float, least: int = 3
) -> None:
    """Time the contenders alternately, round after round, so that other load on the machine hits all of them.

    Each has about `round_seconds` of steps a round, `least` steps at least, after one untimed step that warms the
    caches.
    """
    counts = {}
    for contender in contenders:
        if contender.steps < WARM_UP:
            contender.run(WARM_UP - contender.steps)
        counts[id(contender)] = max(least, math.ceil(round_seconds / contender.run(1)))
    for _ in range(rounds):
        for contender in contenders:
            contender.run(1)
            contender.seconds.append(contender.run(counts[id(contender)]))


def ours(params: Params, vocab_size: int, tokens: TokenArray) -> Contender:
    """The library's `TrainStep`, on the device and in the precision that `params.train` says."""
    tune_malloc()  # as the train stage does
    backend = choose_backend(params, vocab_size)
    train_step = TrainStep(params, vocab_size, tokens, backend)
    train_step.initialize()
    variant = f"{backend.precision}, {'compiled' if backend.compiled else 'eager'}"
    flops = flops_per_step(matrix_weights(train_step.model), params)
    return Contender("ours", variant, train_step.step, parameter_count(train_step.model), flops, backend.device)


def matrix_product(dtype: torch.dtype, size: int, device: torch.device) -> Contender:
    """Products of two large square matrices, one a step: the peak that no training step exceeds."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    variant = f"{_precision(dtype)}, {size:,} × {size:,}"
    return Contender("matrix product", variant, lambda _: torch.mm(left, right, out=product), 0, 2.0 * size**3, device)


@dataclass(frozen=True)
class Variant:
    """How to run a peer. `compiled` is torch.compile's mode, None for eager; `keeps_memory` as our train stage does."""

    attention: str
    dtype: torch.dtype = torch.bfloat16
    compiled: str | None = None
    keeps_memory: bool = False

    def __str__(self) -> str:
        how = {None: "eager", "default": "compiled"}.get(self.compiled, f"compiled ({self.compiled})")
        kept = ", memory kept" if self.keeps_memory else ""
        return f"{_precision(self.dtype)}, {how}, attention: {self.attention}{kept}"


def _precision(dtype: torch.dtype) -> str:
    return "bf16" if dtype == torch.bfloat16 else "fp32"


class _Loss(nn.Module):
    """Mean cross-entropy of a model, so that it is compiled together with the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        logits: Tensor = self.model(tokens)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def peer_contender(
    peer: Peer,
    variant: Variant,
    params: Params,
    vocab_size: int,
    tokens: TokenArray,
    device: torch.device,
    losses: list[float] | None = None,
) -> Contender:
    """A peer in a plain good loop: fused AdamW, clipping, autocast, our windows from pinned memory.

    Where `losses` is given each step appends its loss (and waits for the device).
    """
    if variant.keeps_memory:
        tune_malloc()
    torch.manual_seed(0)
    model = peer.build(params.model, vocab_size, variant.attention).to(device)
    windows = WindowSampler(tokens, params.model.context_length, params.train.batch_size, params.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    loss_of: Callable[[Tensor, Tensor], Tensor] = _Loss(model)
    if variant.compiled:
        loss_of = torch.compile(loss_of, mode=variant.compiled)

    def to_device(ids: Tensor) -> Tensor:
        return ids.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else ids

    def step(number: int) -> None:
        rows = to_device(torch.from_numpy(windows.batches(number, 1)[0]))
        inputs, targets = rows[:, :-1], rows[:, 1:]
        with torch.autocast(device.type, torch.bfloat16, enabled=variant.dtype == torch.bfloat16):
            loss = loss_of(inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if losses is not None:
            losses.append(loss.item())

    flops = flops_per_step(matrix_weights(model), params)
    return Contender(peer.name, str(variant), step, parameter_count(model), flops, device)
