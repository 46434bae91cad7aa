"""Training speed at GPT-2-small's size, 124 million parameters and a context of 1,024: ours and nanoGPT's model."""

import statistics

from benchmarks.contenders import SubprocessContender, Variant, interleave, ours, peer_contender
from benchmarks.peers import PEERS
from benchmarks.results import Result
from benchmarks.workload import TINY, TINY_VOCABULARY, benchmark_params, zipf_tokens
from tinystories.common.params import ModelConfig, Params
from tinystories.model.device import choose_device

VOCABULARY = 50_257
SHAPE = ModelConfig(context_length=1024, embedding_size=768, layers=12, heads=12)
BATCH = 4  # windows
ROUNDS = 6
ROUND_SECONDS = 10.0


def measure(tiny: bool = False) -> Result:
    """Seconds a step of each, in turn; ours also with a window computed at a time (train.micro_batch_size)."""
    device, vocab_size = choose_device("auto"), TINY_VOCABULARY if tiny else VOCABULARY
    tokens = zipf_tokens(10_000 if tiny else 2_000_000, vocab_size)

    def params(micro_batch: int) -> Params:
        found = benchmark_params(batch_size=BATCH, micro_batch_size=micro_batch, device=device.type)
        train = found.train.model_copy(update={"compile": "off" if tiny else "on"})
        return found.model_copy(update={"model": TINY if tiny else SHAPE, "train": train})

    tuned = Variant("sdpa", compiled=None if tiny else "default", keeps_memory=device.type == "cpu")
    contenders = {
        "ours": SubprocessContender(ours, params(BATCH), vocab_size, tokens),
        "ours, one window at a time": SubprocessContender(ours, params(1), vocab_size, tokens),
        PEERS[0].name: SubprocessContender(peer_contender, PEERS[0], tuned, params(BATCH), vocab_size, tokens, device),
    }
    interleave(list(contenders.values()), 1 if tiny else ROUNDS, 0.01 if tiny else ROUND_SECONDS, least=1)
    reference = contenders["ours"].seconds
    rows = []
    for name, contender in contenders.items():
        contender.end()
        ratios = [own / our for own, our in zip(contender.seconds, reference, strict=True)]
        rows.append(
            {
                "contender": name,
                "variant": contender.variant,
                "parameters": contender.parameters,
                "s/step": round(statistics.median(contender.seconds), 3),
                "tokens/s": round(BATCH * SHAPE.context_length / statistics.median(contender.seconds), 1),
                "ours is faster": f"{statistics.median(ratios):.2f}",
                "least": f"{min(ratios):.2f}",
                "most": f"{max(ratios):.2f}",
            }
        )
    title = f"Training step at GPT-2-small's size, {BATCH} windows of {SHAPE.context_length:,} tokens, on {device.type}"
    return {"title": f"{title}: medians of {ROUNDS} rounds, in turn", "rows": rows}
