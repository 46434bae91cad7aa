"""How long the whole reference run takes, from starting Python to the last sample, with all that it waits for.

`python -m benchmarks.reference_run OUT --started $(date +%s.%N)`: a fresh process, so that start-up and compiling
count. The loop is that of the `train` stage without MLflow and saved states: they need packages that a bare machine
has not, and benchmarks/overhead.py measures them. Without token files it trains on tokens drawn by Zipf's law.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

from benchmarks.work import TINY_VOCABULARY, VOCABULARY, benchmark_params, zipf_tokens
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
    """Vocabulary, training tokens, validation tokens, bytes of validation text: from a directory, or drawn."""
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


def run(params: Params, tokens: Path | None, begin: float, budget: float, tiny: bool) -> dict[str, Any]:
    """Train to the end, or until `budget` seconds are over: then the rest is reckoned from the steps' speed so far.

    `begin` is when it all began, by `time.perf_counter`.
    """
    vocab_size, train_tokens, valid_tokens, valid_bytes = tokens_to_train_on(tokens, tiny)
    backend = choose_backend(params, vocab_size)
    prepared = time.perf_counter()
    engine = TrainStep(params, vocab_size, train_tokens, backend)
    steps, log_every = params.train.steps, params.train.log_every
    seconds: dict[str, float] = {"imports and tokens": prepared - begin}
    rows: list[tuple[int, float, float]] = []  # step, mean loss since the row before, seconds since the start
    epochs: list[dict[str, float]] = []
    validating = sampling = 0.0
    step = 0
    while step < steps and time.perf_counter() - begin < budget:
        engine.step(step)
        step += 1
        if step % log_every == 0 or step % params.train.steps_per_epoch == 0:
            loss = engine.loss_sum.item() / (step - (rows[-1][0] if rows else 0))
            engine.loss_sum.zero_()
            rows.append((step, loss, time.perf_counter() - begin))
        if step % params.train.steps_per_epoch == 0:
            start = time.perf_counter()
            model = engine.model.inference_copy()
            valid = engine.evaluate_loss(valid_tokens, valid_bytes)
            validated = time.perf_counter()
            _draw_samples(model, params)
            validating += validated - start
            sampling += time.perf_counter() - validated
            epochs.append({"step": step, "valid_loss": valid.loss, "valid_bits_per_byte": valid.bits_per_byte})
    engine.loss_sum.item()  # waits for the device
    end = time.perf_counter()

    first, last = rows[0], rows[-1]
    total = end - begin
    speed = (last[0] - first[0]) / max(last[2] - first[2] - validating - sampling, 1e-9)
    if step < steps:
        missing_epochs = params.train.epochs - len(epochs)
        total += (steps - step) / speed + missing_epochs * (validating + sampling) / max(len(epochs), 1)
    seconds |= {
        "model and first steps, with compiling": first[2] - seconds["imports and tokens"],
        "the other steps": end - begin - first[2] - validating - sampling,
        "validation": validating,
        "samples": sampling,
    }
    if not math.isfinite(last[1]):
        raise SystemExit(f"the training loss is {last[1]}")
    return {
        "title": f"The reference run: {step:,} of {steps:,} steps, {backend.precision}",
        "columns": ["what", "seconds"],
        "rows": [
            *({"what": what, "seconds": round(value, 2)} for what, value in seconds.items()),
            {"what": "whole run" if step == steps else "whole run (reckoned)", "seconds": round(total, 2)},
        ],
        "notes": [
            f"tokens: {'from ' + tokens.name if tokens else 'drawn by Zipf’s law'}; no MLflow, no saved states",
            f"{speed * params.train.batch_size * params.model.context_length:,.0f} tokens/s after the first steps",
        ],
        "steps": step,
        "seconds": round(total, 2),
        "reckoned": step < steps,
        "first_loss": rows[0][1],
        "last_loss": last[1],
        "epochs": epochs,
    }


def _draw_samples(model: GPT, params: Params) -> None:
    """As many as the stage draws, with prompts of about that length: what they say makes no difference to the time."""
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
    parser.add_argument("--budget", type=float, default=240, help="seconds; what is missing then is reckoned")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to test this program")
    parser.add_argument("--started", type=float, default=time.time(), help="when the process was started, in Unix time")
    options = parser.parse_args()
    begin = time.perf_counter() - (time.time() - options.started)
    length = {"epochs": 2, "steps_per_epoch": 40 if options.tiny else 20_000}
    params = benchmark_params(options.tiny, device=options.device, **length)
    write_json(options.out, run(params, options.tokens, begin, options.budget, options.tiny))


if __name__ == "__main__":
    main()
