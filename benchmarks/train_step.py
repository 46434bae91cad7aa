"""Training speed at the reference shape: ours beside peers, in turn, each in a process of its own."""

import os
import statistics
import time
from collections.abc import Sequence

import torch

from benchmarks.contenders import WARM_UP, Apart, Contender, Variant, in_turn, matrix_product, ours, peer_contender
from benchmarks.peers import PEERS, Peer
from benchmarks.results import Result
from benchmarks.work import TINY_VOCABULARY, VOCABULARY, benchmark_params, zipf_tokens
from tinystories.common.console import info
from tinystories.common.params import Params
from tinystories.model.device import choose_device
from tinystories.tokenization.token_files import TokenArray

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
    """Tokens a second of every contender's best variant, and its share of the work that matrix products do meanwhile.

    Each peer takes turns with ours and the products, and is compared with both in those rounds. The peers share about
    `seconds` for trying their variants, and each is tried in one at least. `tiny` is for tests.
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
    product = _best_product(device, tiny)  # not earlier: on a GPU, peers compile meanwhile

    our_seconds: list[float] = []
    roofs: list[float] = []  # FLOP/s of the product in the same rounds

    def compare(*contenders: Apart) -> None:
        our_best.seconds.clear()
        product.seconds.clear()
        in_turn([our_best, *contenders, product], ROUNDS, 0.01 if tiny else 0.5 if device.type == "cuda" else 2.0)
        rates = [product.flops / seconds for seconds in product.seconds]
        our_seconds.extend(our_best.seconds)
        roofs.extend(rates)
        for contender in contenders:
            rows.append(_row(contender, contender.seconds, our_best.seconds, rates, batch))
            contender.end()

    found = {name: _working(contenders) for name, contenders in begun.items()}
    if our_best is not plain:
        compare(plain)
    for done, peer in enumerate(installed):
        deadline = time.monotonic() + (end - time.monotonic()) / (len(installed) - done)
        if peer.name in found:
            contender, tried = _best_of(*found[peer.name], batch)
        else:
            contender, tried = _best_variant(peer, work, device, deadline, tiny)
        notes.append(f"{peer.name}, tokens/s in a first short try: {'; '.join(tried)}")
        info(notes[-1])
        if contender:
            compare(contender)
        if device.type == "cpu" and len(peer.attentions) > 1 and not tiny:
            # By somebody who knows what costs time on a CPU.
            tuned = Variant(peer.attentions[-1], compiled="default", keeps_memory=True)
            try:
                compare(Apart(peer_contender, peer, tuned, *work, device))
            except RuntimeError as error:
                notes.append(f"{peer.name}, {tuned}: failed ({error})")
    if not rows:
        compare()
    rows.insert(0, _row(our_best, our_seconds, our_seconds, roofs, batch))
    our_best.end()
    product.end()
    median, best = statistics.median(roofs) / 1e12, max(roofs) / 1e12
    roof = f"roof: a product ({product.variant}), in turn with all others: {median:,.3f} TFLOP/s, at best {best:,.3f}"
    return {
        "title": f"Training step, {batch:,} tokens, on {device.type}: medians of {ROUNDS} rounds, in turn with ours",
        "columns": COLUMNS.split(", "),
        "rows": rows,
        "notes": [roof, *notes],
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
    return (_keep_fastest(contenders) if contenders else None), tried


def _keep_fastest(contenders: Sequence[Apart]) -> Apart:
    """The one that did most in a second in its best round, its rounds forgotten. The others are ended."""
    fastest = max(contenders, key=lambda contender: contender.flops / min(contender.seconds))
    for contender in contenders:
        if contender is not fastest:
            contender.end()
    fastest.seconds.clear()
    return fastest


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
    contender: Apart | Contender,
    seconds: Sequence[float],
    our_seconds: Sequence[float],
    roofs: Sequence[float],
    batch: int,
) -> dict[str, str | int | float]:
    """`seconds` a step, ours, and FLOP/s of the product, in the same rounds."""
    rounds = list(zip(seconds, our_seconds, roofs, strict=True))
    return {
        "contender": contender.name,
        "variant": contender.variant,
        "parameters": contender.parameters,
        "ms/step": round(1000 * statistics.median(seconds), 3),
        "tokens/s": round(batch / statistics.median(seconds), 1),
        "slowest": round(batch / max(seconds), 1),
        "fastest": round(batch / min(seconds), 1),
        "of roof": f"{statistics.median(contender.flops / own / roof for own, _, roof in rounds):.1%}",
        "ours is faster": f"{statistics.median(own / our for own, our, _ in rounds):.2f}",
    }


def _best_product(device: torch.device, tiny: bool) -> Apart:
    """The fastest product here, of bf16 and fp32 and of two sizes: shares then mean the same for every contender."""
    sizes = (64,) if tiny else (2048, 4096)
    tried = [Apart(matrix_product, dtype, size, device) for dtype in (torch.bfloat16, torch.float32) for size in sizes]
    in_turn(tried, 2 if tiny else ROUNDS, 0.01 if tiny else 0.5)
    return _keep_fastest(tried)


def _compile(params: Params, setting: str) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update={"compile": setting})})
