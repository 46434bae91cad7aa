"""Training speed at the reference shape: ours beside peers, in turn, in one process."""

import time
from collections.abc import Sequence

import torch

from benchmarks.contenders import WARM_UP, Contender, Variant, free_memory, in_turn, ours, peer_contender
from benchmarks.machine import roof
from benchmarks.peers import PEERS, Peer
from benchmarks.results import Result
from benchmarks.work import TINY_VOCABULARY, VOCABULARY, benchmark_params, zipf_tokens
from tinystories.backend import choose_device, keep_freed_memory
from tinystories.console import say
from tinystories.params import Params
from tinystories.tokens import TokenArray

ROUNDS = 5
TOKENS = 2_000_000


def measure(
    device: torch.device | None = None,
    *,
    seconds: float = 900,
    peers: Sequence[Peer] = PEERS,
    tokens: TokenArray | None = None,
    tiny: bool = False,
) -> Result:
    """Tokens a second of every contender's best variant, and its share of what a matrix product reaches here.

    The peers share about `seconds` for trying their variants, and each is tried in one at least. `tiny` is for tests.
    """
    end = time.monotonic() + seconds
    keep_freed_memory()  # as the train stage does; the peers gain by it, too
    device = device or choose_device("auto")
    params = benchmark_params(tiny, device=device.type)
    vocab_size = TINY_VOCABULARY if tiny else VOCABULARY
    if tokens is None:
        tokens = zipf_tokens(10_000 if tiny else TOKENS, vocab_size)
    round_seconds = 0.01 if tiny else 2.0
    best_product = _roof(device, tiny)

    contenders = [ours(_compile(params, "off"), vocab_size, tokens)]
    notes = [f"{peer.name}: not installed, left out" for peer in peers if not peer.installed]
    if not tiny:
        compiled = ours(_compile(params, "on"), vocab_size, tokens)
        try:
            compiled.run(WARM_UP)
            contenders.append(compiled)
        except torch._dynamo.exc.TorchDynamoException as error:
            notes.append(f"ours, compiled: failed ({_first_line(error)})")  # such as without a C++ compiler
    installed = [peer for peer in peers if peer.installed]
    for done, peer in enumerate(installed):
        deadline = time.monotonic() + (end - time.monotonic()) / (len(installed) - done)
        best, tried = _best_variant(peer, params, vocab_size, tokens, device, deadline, tiny)
        contenders += best
        notes.append(f"{peer.name}, tokens/s in a first short try: {'; '.join(tried)}")
        say(notes[-1])
    in_turn(contenders, ROUNDS, round_seconds)
    best_product = max(best_product, _roof(device, tiny))

    batch = params.train.batch_size * params.model.context_length
    return {
        "title": f"Training step, {batch:,} tokens, on {device.type}: medians of {ROUNDS} rounds, contenders in turn",
        "columns": ["contender", "variant", "parameters", "ms/step", "tokens/s", "slowest", "fastest", "of roof"],
        "rows": [_row(contender, batch, best_product) for contender in contenders],
        "notes": [f"roof: {best_product / 1e12:,.3f} TFLOP/s, the best product of two large matrices here", *notes],
        "roof_flops": best_product,
        "torch": torch.__version__,
    }


def _best_variant(
    peer: Peer,
    params: Params,
    vocab_size: int,
    tokens: TokenArray,
    device: torch.device,
    deadline: float,
    tiny: bool,
) -> tuple[list[Contender], list[str]]:
    """The peer in its fastest variant (none if none works), and what was tried with which speed.

    One thing is varied at a time, from the best so far: attention, then precision, then compilation.
    """
    best: Contender | None = None
    chosen = Variant(peer.attentions[0])
    tried: list[str] = []
    batch = params.train.batch_size * params.model.context_length

    def attempt(variant: Variant) -> None:
        nonlocal best, chosen
        if tried and time.monotonic() > deadline:
            tried.append(f"{variant}: no time left")
            return
        free_memory()
        try:
            contender = peer_contender(peer, variant, params, vocab_size, tokens, device)
            in_turn([contender], rounds=2, round_seconds=0.01 if tiny else 0.5, least=1)
        except Exception as error:  # another's package, in a combination that it may not know
            tried.append(f"{variant}: failed ({_first_line(error)})")
            return
        tried.append(f"{variant}: {batch / contender.best:,.0f}")
        if best is None or contender.best < best.best:
            best, chosen = contender, variant

    attempt(chosen)
    for attention in peer.attentions[1:]:
        attempt(Variant(attention))
    attempt(Variant(chosen.attention, torch.float32))
    if not tiny:
        for mode in ("default", "reduce-overhead") if device.type == "cuda" else ("default",):
            attempt(Variant(chosen.attention, chosen.dtype, mode))
    if best is not None:
        best.seconds.clear()
    return [best] if best is not None else [], tried


def _row(contender: Contender, batch: int, best_product: float) -> dict[str, str | int | float]:
    speed = batch / contender.median
    return {
        "contender": contender.name,
        "variant": contender.variant,
        "parameters": contender.parameters,
        "ms/step": round(1000 * contender.median, 3),
        "tokens/s": round(speed, 1),
        "slowest": round(batch / max(contender.seconds), 1),
        "fastest": round(batch / min(contender.seconds), 1),
        "of roof": f"{speed * contender.flops_per_token / best_product:.1%}",
    }


def _roof(device: torch.device, tiny: bool) -> float:
    """The faster of bf16 and fp32, so that shares mean the same for every contender."""
    sizes, seconds = ((64,), 0.0) if tiny else ((2048, 4096), 0.5)
    return max(roof(dtype, device, sizes, seconds) for dtype in (torch.bfloat16, torch.float32))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}"


def _compile(params: Params, setting: str) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update={"compile": setting})})
