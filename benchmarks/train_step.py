"""Training speed at the reference shape: ours beside peers, in turn, each in a process of its own."""

import os
import statistics
import time
from collections.abc import Sequence

import torch

from benchmarks.contenders import WARM_UP, Apart, Variant, in_turn, ours, peer_contender
from benchmarks.machine import roof
from benchmarks.peers import PEERS, Peer
from benchmarks.results import Result
from benchmarks.work import TINY_VOCABULARY, VOCABULARY, benchmark_params, zipf_tokens
from tinystories.backend import choose_device
from tinystories.console import say
from tinystories.params import Params
from tinystories.tokens import TokenArray

ROUNDS = 5
TOKENS = 2_000_000
COLUMNS = "contender, variant, parameters, ms/step, tokens/s, slowest, fastest, of roof, ours is faster"


def measure(
    device: torch.device | None = None,
    *,
    seconds: float = 900,
    peers: Sequence[Peer] = PEERS,
    tokens: TokenArray | None = None,
    tiny: bool = False,
) -> Result:
    """Tokens a second of every contender's best variant, and its share of what a matrix product reaches here.

    Each peer takes turns with ours alone, and is compared with ours in those rounds. The peers share about `seconds`
    for trying their variants, and each is tried in one at least. `tiny` is for tests.
    """
    end = time.monotonic() + seconds
    device = device or choose_device("auto")
    params = benchmark_params(tiny, device=device.type)
    vocab_size = TINY_VOCABULARY if tiny else VOCABULARY
    if tokens is None:
        tokens = zipf_tokens(10_000 if tiny else TOKENS, vocab_size)
    work = (params, vocab_size, tokens)
    best_product = _roof(device, tiny)
    notes = [f"{peer.name}: not installed, left out" for peer in peers if not peer.installed]
    installed = [peer for peer in peers if peer.installed]

    begun = {peer.name: _begin(peer, work, device) for peer in installed} if device.type == "cuda" else {}
    batch = params.train.batch_size * params.model.context_length
    plain = Apart(ours, _compile(params, "off"), *work[1:]).ready()
    our_best, rows = plain, []
    if not tiny:
        try:
            our_best = Apart(ours, _compile(params, "on"), *work[1:])
            our_best.run(WARM_UP)
        except RuntimeError as error:  # such as without a C++ compiler
            notes.append(f"ours, compiled: failed ({error})")
            our_best = plain

    def compare(contender: Apart) -> None:
        our_best.seconds.clear()
        in_turn([our_best, contender], ROUNDS, 0.01 if tiny else 0.5 if device.type == "cuda" else 2.0)
        pairs = zip(contender.seconds, our_best.seconds, strict=True)
        ratio = statistics.median(theirs / our for theirs, our in pairs)
        our_seconds.extend(our_best.seconds)
        rows.append((contender, list(contender.seconds), f"{ratio:.2f}"))
        contender.end()

    found = {name: _working(contenders) for name, contenders in begun.items()}
    our_seconds: list[float] = []
    if our_best is not plain:
        compare(plain)
    for done, peer in enumerate(installed):
        deadline = time.monotonic() + (end - time.monotonic()) / (len(installed) - done)
        if peer.name in found:
            contender, tried = _best_of(*found[peer.name], batch)
        else:
            contender, tried = _best_variant(peer, work, device, deadline, tiny)
        notes.append(f"{peer.name}, tokens/s in a first short try: {'; '.join(tried)}")
        say(notes[-1])
        if contender:
            compare(contender)
        if device.type == "cpu" and len(peer.attentions) > 1 and not tiny:
            # By somebody who knows what costs time on a CPU.
            tuned = Variant(peer.attentions[-1], compiled="default", keeps_memory=True)
            try:
                compare(Apart(peer_contender, peer, tuned, *work, device))
            except RuntimeError as error:
                notes.append(f"{peer.name}, {tuned}: failed ({error})")
    best_product = max(best_product, _roof(device, tiny))
    our_seconds = our_seconds or [our_best.run(1)]
    rows.insert(0, (our_best, our_seconds, "1"))
    our_best.end()
    return {
        "title": f"Training step, {batch:,} tokens, on {device.type}: medians of {ROUNDS} rounds, in turn with ours",
        "columns": COLUMNS.split(", "),
        "rows": [_row(*row, batch, best_product) for row in rows],
        "notes": [f"roof: {best_product / 1e12:,.3f} TFLOP/s, the best product of two large matrices here", *notes],
        "roof_flops": best_product,
        "torch": torch.__version__,
    }


def _begin(peer: Peer, work: tuple[Params, int, TokenArray], device: torch.device) -> list[Apart]:
    """The variants that can be the fastest on a GPU. All peers' are compiled side by side, before anything is timed:
    that is what takes long there, and such a machine has processors for it."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "2")  # of each: there are many
    variants = [Variant(peer.attentions[0], compiled=mode) for mode in ("reduce-overhead", "default", None)]
    return [Apart(peer_contender, peer, variant, *work, device).warm_up() for variant in variants]


def _working(contenders: Sequence[Apart]) -> tuple[list[Apart], list[str]]:
    """Those that can run, and what the others said."""
    working, failed = [], []
    for contender in contenders:
        try:
            working.append(contender.ready())
        except RuntimeError as error:
            failed.append(f"{getattr(contender, 'variant', 'one variant')}: failed ({error})")
    return working, failed


def _best_of(contenders: Sequence[Apart], tried: list[str], batch: int) -> tuple[Apart | None, list[str]]:
    """The fastest of a peer's variants (None if there is none), and the speeds of all. The others are ended."""
    for contender in contenders:
        in_turn([contender], rounds=2, round_seconds=0.3)
        tried.append(f"{contender.variant}: {batch / min(contender.seconds):,.0f}")
    by_speed = sorted(contenders, key=lambda contender: min(contender.seconds))
    for contender in by_speed[1:]:
        contender.end()
    for contender in by_speed:
        contender.seconds.clear()
    return (by_speed[0] if by_speed else None), tried


def _best_variant(
    peer: Peer, work: tuple[Params, int, TokenArray], device: torch.device, deadline: float, tiny: bool
) -> tuple[Apart | None, list[str]]:
    """The peer's fastest variant (None if none works), and what was tried with which speed.

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
            contender = Apart(peer_contender, peer, variant, *work, device)
            in_turn([contender], rounds=2, round_seconds=0.01 if tiny else 0.5, least=1)
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
    return Apart(peer_contender, peer, chosen, *work, device) if best else None, tried


def _row(
    contender: Apart, seconds: list[float], ratio: str, batch: int, best_product: float
) -> dict[str, str | int | float]:
    speed = batch / statistics.median(seconds)
    return {
        "contender": contender.name,
        "variant": contender.variant,
        "parameters": contender.parameters,
        "ms/step": round(1000 * batch / speed, 3),
        "tokens/s": round(speed, 1),
        "slowest": round(batch / max(seconds), 1),
        "fastest": round(batch / min(seconds), 1),
        "of roof": f"{speed * contender.flops_per_token / best_product:.1%}",
        "ours is faster": ratio,
    }


def _roof(device: torch.device, tiny: bool) -> float:
    """The faster of bf16 and fp32, so that shares mean the same for every contender."""
    sizes, seconds = ((64,), 0.0) if tiny else ((2048, 4096), 0.5)
    return max(roof(dtype, device, sizes, seconds) for dtype in (torch.bfloat16, torch.float32))


def _compile(params: Params, setting: str) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update={"compile": setting})})
