"""Time the whole reference run, from starting Python to the last sample, with all that it waits for.

`python -m benchmarks.reference_run OUT --started $(date +%s.%N)`: a fresh process, so that start-up and compiling
count. The loop is that of the `train` stage without MLflow and saved states: they need packages that a bare machine
has not, and benchmarks/overhead.py measures them. Without token files it trains on tokens drawn by Zipf's law.
"""

import argparse
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.workload import TINY_VOCABULARY, VOCABULARY, benchmark_params, zipf_tokens
from tinystories.common.artifacts import TokenMeta
from tinystories.common.files import write_json
from tinystories.common.params import Params
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.inference.generate import generate
from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import TokenArray, open_tokens
from tinystories.training.backend import choose_backend
from tinystories.training.step import TrainStep

TRAIN_TOKENS, VALID_TOKENS = 20_000_000, 5_400_000  # the second is about what the official validation stories have
BYTES_A_TOKEN = 4.12  # as with the official stories and 10,000 entries


def tokens_to_train_on(directory: Path | None, tiny: bool) -> tuple[int, TokenArray, TokenArray, int]:
    """Return vocabulary size, training and validation tokens, bytes of validation text: from a directory, or drawn."""
    if directory is not None:
        meta = TokenMeta.read(directory / "meta.json")
        train = open_tokens(directory / "train.bin", meta.train, meta.vocab_size)
        valid = open_tokens(directory / "valid.bin", meta.valid, meta.vocab_size)
        return meta.vocab_size, train, valid, meta.valid.bytes
    vocab_size, train_count, valid_count = VOCABULARY, TRAIN_TOKENS, VALID_TOKENS
    if tiny:
        vocab_size, train_count, valid_count = TINY_VOCABULARY, 5_000, 1_000
    train, valid = zipf_tokens(train_count, vocab_size), zipf_tokens(valid_count, vocab_size, seed=1)
    return vocab_size, train, valid, round(valid_count * BYTES_A_TOKEN)


@dataclass
class Timeline:
    """What a run has done, and when. Times are seconds since its begin."""

    prepared: float  # imports and tokens
    steps: int = 0
    rows: list[tuple[int, float, float]] = field(default_factory=list)  # step, mean loss since the last row, time
    epochs: list[dict[str, float]] = field(default_factory=list)
    validating: float = 0.0  # seconds of all validations
    sampling: float = 0.0
    end: float = 0.0

    def steps_per_second(self) -> float:
        """The rate after the first row, so without compiling, and without validations and samples."""
        first, last = self.rows[0], self.rows[-1]
        return (last[0] - first[0]) / max(last[2] - first[2] - self.validating - self.sampling, 1e-9)


def run(params: Params, tokens: Path | None, begin: float, budget: float, tiny: bool) -> dict[str, Any]:
    """Train to the end, or until `budget` seconds are over: the rest is then estimated from the steps' speed so far.

    `begin` is when it all began, by `time.perf_counter`.
    """
    vocab_size, train_tokens, valid_tokens, valid_bytes = tokens_to_train_on(tokens, tiny)
    backend = choose_backend(params, vocab_size)
    timeline = Timeline(prepared=time.perf_counter() - begin)
    train_step = TrainStep(params, vocab_size, train_tokens, backend)
    train_step.initialize()
    while timeline.steps < params.train.steps and time.perf_counter() - begin < budget:
        train_step.step(timeline.steps)
        timeline.steps += 1
        ends_epoch = timeline.steps % params.train.steps_per_epoch == 0
        if timeline.steps % params.train.log_every == 0 or ends_epoch:
            loss = train_step.loss_sum.item() / (timeline.steps - (timeline.rows[-1][0] if timeline.rows else 0))
            train_step.loss_sum.zero_()
            timeline.rows.append((timeline.steps, loss, time.perf_counter() - begin))
        if ends_epoch:
            _end_epoch(timeline, train_step, params, valid_tokens, valid_bytes)
    train_step.loss_sum.item()  # waits for the device
    timeline.end = time.perf_counter() - begin
    if not math.isfinite(timeline.rows[-1][1]):
        raise SystemExit(f"the training loss is {timeline.rows[-1][1]}")
    return _result(timeline, params, backend.precision, tokens)


def _end_epoch(
    timeline: Timeline, train_step: TrainStep, params: Params, valid_tokens: TokenArray, valid_bytes: int
) -> None:
    start = time.perf_counter()
    model = train_step.model.inference_copy()
    valid = train_step.evaluate_loss(valid_tokens, valid_bytes)
    validated = time.perf_counter()
    _draw_samples(model, params)
    timeline.validating += validated - start
    timeline.sampling += time.perf_counter() - validated
    losses = {"valid_loss": valid.loss, "valid_bits_per_byte": valid.bits_per_byte}
    timeline.epochs.append({"step": timeline.steps, **losses})


def _result(timeline: Timeline, params: Params, precision: str, tokens: Path | None) -> dict[str, Any]:
    steps, between = params.train.steps, timeline.validating + timeline.sampling
    first, last, speed = timeline.rows[0], timeline.rows[-1], timeline.steps_per_second()
    estimated = timeline.steps < steps
    total = timeline.end
    if estimated:
        missing_epochs = params.train.epochs - len(timeline.epochs)
        total += (steps - timeline.steps) / speed + missing_epochs * between / max(len(timeline.epochs), 1)
    seconds = {
        "imports and tokens": timeline.prepared,
        "model and first steps, with compiling": first[2] - timeline.prepared,
        "the other steps": timeline.end - first[2] - between,
        "validation": timeline.validating,
        "samples": timeline.sampling,
        "whole run (estimated)" if estimated else "whole run": total,
    }
    return {
        "title": f"The reference run: {timeline.steps:,} of {steps:,} steps, {precision}",
        "columns": ["what", "seconds"],
        "rows": [{"what": what, "seconds": round(value, 2)} for what, value in seconds.items()],
        "notes": [
            f"tokens: {'from ' + tokens.name if tokens else 'drawn by Zipf’s law'}; no MLflow, no saved states",
            f"{speed * params.train.batch_size * params.model.context_length:,.0f} tokens/s after the first steps",
        ],
        "steps": timeline.steps,
        "seconds": round(total, 2),
        "estimated": estimated,
        "first_loss": first[1],
        "last_loss": last[1],
        "epochs": timeline.epochs,
    }


def _draw_samples(model: GPT, params: Params) -> None:
    """Generate as many as the stage, from prompts of about that length: their words make no difference to the time."""
    sample = params.sample
    prompts = [[END_OF_TEXT_ID, *range(1, min(12, model.vocab_size))] for _ in sample.prompts]
    generate(
        model,
        [*prompts, [END_OF_TEXT_ID]],
        max_new_tokens=sample.max_new_tokens,
        temperature=sample.temperature,
        top_k=sample.top_k,
        seeds=range(len(prompts) + 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=Path, help="directory with train.bin, valid.bin and meta.json")
    parser.add_argument("--budget", type=float, default=240, help="seconds; the rest is then estimated")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to test this program")
    parser.add_argument("--started", type=float, default=time.time(), help="when the process was started, in Unix time")
    options = parser.parse_args()
    begin = time.perf_counter() - (time.time() - options.started)
    length = {"epochs": 2, "steps_per_epoch": 40 if options.tiny else 20_000}
    params = benchmark_params(options.tiny, device=options.device, **length)
    write_json(options.out, run(params, options.tokens, begin, options.budget, options.tiny))


if __name__ == "__main__":
    main()
