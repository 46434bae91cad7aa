"""Generation speed: our `generate` and that of transformers, on the same checkpoint.

    python -m benchmarks.generating

Reference shape, random weights: what is drawn does not matter, how fast does. All texts have the same length and none
ends, so that both sides do the same work; transformers has no padding to attend to, which is its best case.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, logging

from benchmarks.results import Result, table
from tinystories.common.params import ModelConfig
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.inference.generate import generate
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.gpt import GPT

SHAPE = ModelConfig(context_length=128, embedding_size=256, layers=8, heads=16)
VOCABULARY = 10_000
PROMPT, NEW = 16, 64  # tokens
ROUNDS = 3
TOP_K, TEMPERATURE = 40, 0.8
CACHES = ("dynamic", "static")  # transformers' two: it gets the one that is faster


def measure() -> Result:
    """Tokens per second, the median of the rounds; the contenders of a row are interleaved in this process."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = _random_model()
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Path(directory) / "checkpoint"
        tokenizer = Path(directory) / "none.json"
        tokenizer.write_text("{}")  # none is needed
        save_checkpoint(model, tokenizer, checkpoint)
        rows = [
            _row(batch, mode, precision, _contenders(model, checkpoint, precision, batch, mode))
            for precision in ("fp32", "bf16")
            for batch in (1, 32)
            for mode in ("greedy", "top-k")
        ]
    return {
        "title": f"Generating: tokens/s, medians of {ROUNDS} rounds, {torch.get_num_threads()} threads",
        "columns": list(rows[0]),
        "rows": rows,
        "notes": [f"prompts of {PROMPT} tokens, {NEW} new ones; transformers with the faster of its caches"],
    }


def _row(batch: int, mode: str, precision: str, contenders: dict[str, Callable[[], int]]) -> dict[str, Any]:
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(ROUNDS + 1):
        for name, write in contenders.items():
            start = time.perf_counter()
            written = write()
            if number:  # the first is to warm up
                speeds[name].append(written / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    cache = max(CACHES, key=lambda name: medians[name])
    return {
        "precision": precision,
        "batch": batch,
        "mode": mode,
        "ours": round(medians["ours"], 1),
        "transformers": round(medians[cache], 1),
        "cache": cache,
        "ratio": round(medians["ours"] / medians[cache], 2),
    }


def _contenders(model: GPT, checkpoint: Path, precision: str, batch: int, mode: str) -> dict[str, Callable[[], int]]:
    """Functions that write `batch` texts and return how many tokens they wrote."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    ours = model.inference_copy(dtype)
    compile_kernels(SHAPE.head_size, dtype)  # as the stage train does, two seconds once
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype)
    theirs.generation_config.eos_token_id = None
    ids = torch.randint(1, VOCABULARY, (batch, PROMPT), generator=torch.Generator().manual_seed(batch))
    choice = (
        {"do_sample": True, "top_k": TOP_K, "temperature": TEMPERATURE} if mode == "top-k" else {"do_sample": False}
    )

    def write_ours() -> int:
        top_k = TOP_K if mode == "top-k" else 1
        new = generate(
            ours, ids.tolist(), max_new_tokens=NEW, temperature=TEMPERATURE, top_k=top_k, seeds=list(range(batch))
        )
        return sum(map(len, new))

    def write_theirs(cache: str) -> int:
        texts = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, cache_implementation=cache, **choice
        )
        return int(texts[:, PROMPT:].numel())

    return {"ours": write_ours, **{cache: lambda cache=cache: write_theirs(cache) for cache in CACHES}}  # type: ignore[misc]


def _random_model() -> GPT:
    """All weights random, those too that begin as zero, but the end-of-text's: with a logit of 0 it is never drawn."""
    model = GPT(SHAPE, VOCABULARY)
    model.initialize(0)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in (model.o_proj, model.down_proj):
            weight.normal_(std=0.02)
        model.embedding.normal_(std=0.2)
        model.embedding[END_OF_TEXT_ID] = 0
    return model


if __name__ == "__main__":
    print(table(measure()))
