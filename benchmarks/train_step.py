"""Training speed at the reference shape: ours and its peers, interleaved, each in a process of its own."""

import os
import statistics
import time
from collections.abc import Sequence

import torch

from benchmarks.contenders import (
    WARM_UP,
    Contender,
    SubprocessContender,
    Variant,
    interleave,
    matrix_product,
    ours,
    peer_contender,
)
from benchmarks.peers import PEERS, Peer
from benchmarks.results import Result
from benchmarks.workload import TINY_VOCABULARY, VOCABULARY, benchmark_params, zipf_tokens
from tinystories.common.console import info
from tinystories.common.params import Params
from tinystories.model.device import choose_device
from tinystories.tokenization.token_files import TokenArray

ROUNDS = 5
TOKENS = 2_000_000
COLUMNS = "contender, variant, parameters, ms/step, tokens/s, slowest, fastest, utilization, ours is faster"


def measure(
    device: torch.device | None = None,
    *,
    seconds: float = 900,
    peers: Sequence[Peer] = PEERS,
    tokens: TokenArray | None = None,
    tiny: bool = False,
) -> Result:
    """Tokens a second and utilization of every contender's best variant.

    Each peer is interleaved with ours and a matrix product, and compared with both in those rounds. Utilization is its
    FLOP/s by the product's. The peers share about `seconds` for trying their variants, and each is tried in one at
    least. `tiny` is for tests.
    """
    end = time.monotonic() + seconds
    device = device or choose_device("auto")
    params = benchmark_params(tiny, device=device.type)
    vocab_size = TINY_VOCABULARY if tiny else VOCABULARY
    if tokens is None:
        tokens = zipf_tokens(10_000 if tiny else TOKENS, vocab_size)
    work = (params, vocab_size, tokens)
    notes = [f"{peer.name}: not installed, left out" for peer in peers if not peer.installed]
    installed = [peer for peer in peers if peer.installed]

    begun = {peer.name: _begin(peer, work, device) for peer in installed} if device.type == "cuda" else {}
    plain, our_best = _ours(work, tiny, notes)
    # Not earlier: on a GPU, peers compile meanwhile.
    comparison = Comparison(our_best, _peak_matmul(device, tiny), params, device, tiny)
    found = {name: _working(contenders) for name, contenders in begun.items()}
    if our_best is not plain:
        comparison.add(plain)
    for done, peer in enumerate(installed):
        deadline = time.monotonic() + (end - time.monotonic()) / (len(installed) - done)
        if peer.name in found:
            contender, tried = _best_of(*found[peer.name], comparison.batch)
        else:
            contender, tried = _best_variant(peer, work, device, deadline, tiny)
        notes.append(f"{peer.name}, tokens/s in a first short try: {'; '.join(tried)}")
        info(notes[-1])
        if contender:
            comparison.add(contender)
        if device.type == "cpu" and len(peer.attentions) > 1 and not tiny:
            # By somebody who knows what costs time on a CPU.
            tuned = Variant(peer.attentions[-1], compiled="default", keeps_memory=True)
            try:
                comparison.add(SubprocessContender(peer_contender, peer, tuned, *work, device))
            except RuntimeError as error:
                notes.append(f"{peer.name}, {tuned}: failed ({error})")
    return comparison.result(notes)


class Comparison:
    """Contenders interleaved with ours and a matrix product; a row for each."""

    def __init__(
        self, ours: SubprocessContender, matmul: SubprocessContender, params: Params, device: torch.device, tiny: bool
    ) -> None:
        self.batch = params.train.batch_size * params.model.context_length  # tokens
        self._ours, self._matmul, self._device = ours, matmul, device
        self._round_seconds = 0.01 if tiny else 0.5 if device.type == "cuda" else 2.0
        self._our_seconds: list[float] = []
        self._peaks: list[float] = []  # FLOP/s of the product in the same rounds
        self._rows: list[dict[str, str | int | float]] = []

    def add(self, *contenders: SubprocessContender) -> None:
        """Time them, and end their processes. Errors: RuntimeError where one cannot run."""
        self._ours.seconds.clear()
        self._matmul.seconds.clear()
        interleave([self._ours, *contenders, self._matmul], ROUNDS, self._round_seconds)
        peaks = [self._matmul.flops / seconds for seconds in self._matmul.seconds]
        self._our_seconds += self._ours.seconds
        self._peaks += peaks
        for contender in contenders:
            self._rows.append(_row(contender, contender.seconds, self._ours.seconds, peaks, self.batch))
            contender.end()

    def result(self, notes: list[str]) -> Result:
        """The table, ours first. Ends the processes."""
        if not self._rows:
            self.add()
        ours = _row(self._ours, self._our_seconds, self._our_seconds, self._peaks, self.batch)
        self._ours.end()
        self._matmul.end()
        median, best = statistics.median(self._peaks) / 1e12, max(self._peaks) / 1e12
        peak = f"peak matmul: {self._matmul.variant}, interleaved: {median:,.3f} TFLOP/s, at best {best:,.3f}"
        where = f"{self.batch:,} tokens, on {self._device.type}"
        return {
            "title": f"Training step, {where}: medians of {ROUNDS} rounds, interleaved with ours",
            "columns": COLUMNS.split(", "),
            "rows": [ours, *self._rows],
            "notes": [peak, *notes],
            "torch": torch.__version__,
        }


def _ours(
    work: tuple[Params, int, TokenArray], tiny: bool, notes: list[str]
) -> tuple[SubprocessContender, SubprocessContender]:
    """Ours, eager, and its best variant: compiled, where that works."""
    plain = SubprocessContender(ours, _compile(work[0], "off"), *work[1:]).ready()
    if tiny:
        return plain, plain
    try:
        compiled = SubprocessContender(ours, _compile(work[0], "on"), *work[1:])
        compiled.run(WARM_UP)
    except RuntimeError as error:  # such as without a C++ compiler
        notes.append(f"ours, compiled: failed ({error})")
        return plain, plain
    return plain, compiled


def _begin(peer: Peer, work: tuple[Params, int, TokenArray], device: torch.device) -> list[SubprocessContender]:
    """Start the variants that can be the fastest on a GPU.

    All peers' are compiled at the same time before anything is timed, because compiling takes longest there.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "2")  # of each: there are many
    variants = [Variant(peer.attentions[0], compiled=mode) for mode in ("reduce-overhead", "default", None)]
    return [SubprocessContender(peer_contender, peer, variant, *work, device).warm_up() for variant in variants]


def _working(contenders: Sequence[SubprocessContender]) -> tuple[list[SubprocessContender], list[str]]:
    """Split off the contenders that can run from the error messages of the others."""
    working, failed = [], []
    for contender in contenders:
        try:
            working.append(contender.ready())
        except RuntimeError as error:
            failed.append(f"{getattr(contender, 'variant', 'one variant')}: failed ({error})")
    return working, failed


def _best_of(
    contenders: Sequence[SubprocessContender], tried: list[str], batch: int
) -> tuple[SubprocessContender | None, list[str]]:
    """Return the fastest of a peer's variants (None if there is none), and the speeds of all. The others are ended."""
    for contender in contenders:
        interleave([contender], rounds=2, round_seconds=0.3)
        tried.append(f"{contender.variant}: {batch / min(contender.seconds):,.0f}")
    return (_keep_fastest(contenders) if contenders else None), tried


def _keep_fastest(contenders: Sequence[SubprocessContender]) -> SubprocessContender:
    """Return the one of the most FLOP/s in its best round, its rounds cleared. The others are ended."""
    fastest = max(contenders, key=lambda contender: contender.flops / min(contender.seconds))
    for contender in contenders:
        if contender is not fastest:
            contender.end()
    fastest.seconds.clear()
    return fastest


def _best_variant(
    peer: Peer, work: tuple[Params, int, TokenArray], device: torch.device, deadline: float, tiny: bool
) -> tuple[SubprocessContender | None, list[str]]:
    """Return the peer's fastest variant (None if none works), and what was tried with which speed.

    One thing is varied at a time, from the best so far: precision, then compilation.
    """
    chosen, best = Variant(peer.attentions[0]), 0.0
    tried: list[str] = []
    batch = work[0].train.batch_size * work[0].model.context_length

    def attempt(variant: Variant) -> None:
        nonlocal best, chosen
        if tried and time.monotonic() > deadline:
            tried.append(f"{variant}: no time left")
            return
        try:
            contender = SubprocessContender(peer_contender, peer, variant, *work, device)
            interleave([contender], rounds=2, round_seconds=0.01 if tiny else 0.5, least=1)
        except RuntimeError as error:
            tried.append(f"{variant}: failed ({error})")
            return
        contender.end()
        speed = batch / min(contender.seconds)  # other work on the machine only ever slows one down
        tried.append(f"{variant}: {speed:,.0f}")
        if speed > best:
            best, chosen = speed, variant

    attempt(chosen)
    attempt(Variant(chosen.attention, torch.float32))
    if not tiny:
        attempt(Variant(chosen.attention, chosen.dtype, "default"))
    return SubprocessContender(peer_contender, peer, chosen, *work, device) if best else None, tried


def _row(
    contender: SubprocessContender | Contender,
    seconds: Sequence[float],
    our_seconds: Sequence[float],
    peaks: Sequence[float],
    batch: int,
) -> dict[str, str | int | float]:
    """`seconds` a step, ours, and FLOP/s of the product, in the same rounds."""
    rounds = list(zip(seconds, our_seconds, peaks, strict=True))
    return {
        "contender": contender.name,
        "variant": contender.variant,
        "parameters": contender.parameters,
        "ms/step": round(1000 * statistics.median(seconds), 3),
        "tokens/s": round(batch / statistics.median(seconds), 1),
        "slowest": round(batch / max(seconds), 1),
        "fastest": round(batch / min(seconds), 1),
        "utilization": f"{statistics.median(contender.flops / own / peak for own, _, peak in rounds):.1%}",
        "ours is faster": f"{statistics.median(own / our for own, our, _ in rounds):.2f}",
    }


def _peak_matmul(device: torch.device, tiny: bool) -> SubprocessContender:
    """The fastest matrix product here, of bf16 and fp32 and of two sizes: the peak of all utilizations."""
    sizes = (64,) if tiny else (2048, 4096)
    tried = [
        SubprocessContender(matrix_product, dtype, size, device)
        for dtype in (torch.bfloat16, torch.float32)
        for size in sizes
    ]
    interleave(tried, 2 if tiny else ROUNDS, 0.01 if tiny else 0.5)
    return _keep_fastest(tried)


def _compile(params: Params, setting: str) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update={"compile": setting})})
