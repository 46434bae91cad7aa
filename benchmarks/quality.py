"""Quality at equal tokens on real stories: this project's recipe compared with others, several seeds.

    python -m benchmarks.quality run ours --steps 400 --seed 1      one training; its row goes to benchmarks/results/
    python -m benchmarks.quality run ours --steps 400 --seed 1 --dev --set train.learning_rate=0.01
    python -m benchmarks.quality all [--steps 400]                  the whole campaign; continues where it stopped
    python -m benchmarks.quality table [--dev] [--shape small]      what the rows say (quality_table.py)
    python -m benchmarks.scaling                                    loss against tokens, with the fit (scaling.py)

Recipes (recipes.py) are searched on `dev`, stories held out of the training stories: with --dev a run does not touch
valid.txt. All recipes train on the same token files; scores are in fp32, each token once.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality_table import label, measure, read_rows
from benchmarks.recipes import RATES, RECIPES, SHAPES, describe, for_scoring, make_params, prepare
from benchmarks.results import RESULTS, table
from benchmarks.stories import Stories, prepare_stories
from tinystories.common.console import info
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.inference.loss_eval import evaluate_loss
from tinystories.training.backend import choose_backend, describe_environment

SEEDS = (1, 2, 3)
LENGTHS = (400, 1_400, 5_600)  # steps: on tinystories-v2 no repeats up to the second, four passes in the third
LADDERS = {"ours": (0.004, 0.005, 0.007, 0.01, 0.014, 0.02), "gpt2": (6e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3)}
LOG_EVERY = 20  # steps
SCORED_AT_ONCE = 64  # windows

Row = dict[str, Any]


def results_file(stories: Stories) -> Path:
    """benchmarks/results/quality-SAMPLE-MACHINE.jsonl, the machine named by what it computes on."""
    backend = choose_backend(make_params("ours", 1, 1, "reference", {}), stories.vocab_size)
    name = f"{stories.name} {describe_environment(backend)['device_name']}"
    return RESULTS / f"quality-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.jsonl"


def run(
    recipe: str,
    steps: int,
    seed: int,
    *,
    results: Path,
    stories: Stories,
    learning_rate: float | None = None,
    shape: str = "reference",
    dev_only: bool = False,
    overrides: dict[str, Any] | None = None,
    variant: str = "",
) -> Row:
    """Do one training, score it and append its row to `results`; where that row is there already, return it.

    `variant` names a change of the code that is being tried. Errors: UserError, as `make_params`.
    """
    overrides = overrides or {}
    params = make_params(recipe, steps, seed, shape, overrides)
    if learning_rate is not None and recipe not in RATES:
        raise UserError(f"--lr is for {' and '.join(RATES)}; for ours say --set train.learning_rate={learning_rate}")
    backend = choose_backend(params, stories.vocab_size)
    rate = learning_rate or RATES.get(recipe, params.train.learning_rate)
    what = describe(recipe, params, rate, stories, backend.precision)
    names = {"recipe": recipe, "shape": shape, "overrides": overrides, **({"variant": variant} if variant else {})}
    same = [row for row in read_rows(results) if row["identity"] == what["identity"]]
    if not dev_only:
        same = [row for row in same if row["valid_loss"] is not None]
    if found := next((row for row in same if row.get("variant", "") == variant), None):
        info(f"{label(found)}, {steps:,} steps, seed {seed}: done before")
        return found
    row = {**names, **what, **_train(recipe, params, rate, stories, dev_only)}
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    info(f"{label(row)}, {steps:,} steps, seed {seed}: dev {row['dev_loss']:.4f}, valid {row['valid_loss'] or '-'}")
    return row


def _train(recipe: str, params: Params, rate: float, stories: Stories, dev_only: bool) -> Row:
    """The measured part of a row. The first step, in which the model is compiled, is left out of the times."""
    backend = choose_backend(params, stories.vocab_size)
    steps, step_tokens = params.train.steps, params.train.batch_size * params.model.context_length
    step, model = prepare(recipe, params, rate, stories, backend)
    info(f"{recipe}, seed {params.seed}: first loss {step(0).item():.3f}")
    start = time.monotonic()
    logged, mean = 0, 0.0
    recent = torch.zeros((), device=backend.device)
    for number in range(1, steps):
        recent += step(number)
        if (number + 1) % LOG_EVERY == 0 or number + 1 == steps:
            mean = recent.item() / (number - logged)
            speed = number * step_tokens / (time.monotonic() - start)
            info(f"{recipe}, seed {params.seed}, step {number + 1:,}: loss {mean:.4f}, {speed:,.0f} tokens/s")
            logged = number
            recent.zero_()
    seconds = time.monotonic() - start
    environment = describe_environment(backend)
    measured: Row = {
        "tokens": steps * step_tokens,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_loss": round(mean, 6),
        "seconds": round(seconds, 1),
        "tokens_per_second": round((steps - 1) * step_tokens / seconds),
    }
    scored = for_scoring(model)
    for split in ("dev", "valid"):
        result = None
        if split == "dev" or not dev_only:
            result = evaluate_loss(scored, stories.tokens(split), stories.splits[split].bytes, SCORED_AT_ONCE)
        measured[f"{split}_loss"] = round(result.loss, 6) if result else None
        measured[f"{split}_bits_per_byte"] = round(result.bits_per_byte, 6) if result else None
    return {
        **measured,
        "machine": environment["device_name"],
        **{key: environment[key] for key in ("device", "threads", "compiled", "torch", "git_commit")},
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def tune(recipe: str, steps: int, results: Path, stories: Stories) -> float:
    """Return the best peak learning rate of the recipe's ladder at this length, by the dev loss of the first seed.

    From the rate in use it goes up or down as long as that helps: a few trainings each.
    """
    rates, seed = LADDERS[recipe], SEEDS[0]

    def dev_loss(index: int) -> float:
        if not 0 <= index < len(rates):
            return float("inf")
        row = run(recipe, steps, seed, results=results, stories=stories, dev_only=True, **at_rate(recipe, rates[index]))
        return float(row["dev_loss"])

    best = rates.index(0.007 if recipe == "ours" else RATES[recipe])
    for direction in (1, -1):
        while dev_loss(best + direction) < dev_loss(best):
            best += direction
    return rates[best]


def at_rate(recipe: str, rate: float) -> Row:
    """The arguments of `run` for a peak learning rate."""
    return {"overrides": {"train.learning_rate": rate}} if recipe == "ours" else {"learning_rate": rate}


def campaign(lengths: Sequence[int], results: Path, stories: Stories) -> None:
    """Everything that the table shows: at each length both recipes, each at the best rate of its ladder, all seeds."""
    for steps in lengths:
        for recipe in LADDERS:
            best = tune(recipe, steps, results, stories)
            for seed in SEEDS:
                run(recipe, steps, seed, results=results, stories=stories, **at_rate(recipe, best))


def _override(text: str) -> tuple[str, Any]:
    """`train.learning_rate=1e-2` -> its key and value; what is no number is text."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def main() -> None:
    """The command line; see the module's own text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="Quality at equal tokens.")
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="one training")
    one.add_argument("recipe", choices=RECIPES)
    one.add_argument("--steps", type=int, required=True)
    one.add_argument("--seed", type=int, required=True)
    one.add_argument("--lr", type=float, help="peak learning rate, for the recipes outside the library")
    one.add_argument("--set", type=_override, action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    one.add_argument("--variant", default="", help="name of a change of the code that is being tried")
    every = commands.add_parser("all", help="the whole campaign")
    every.add_argument("--steps", type=int, nargs="+", default=LENGTHS)
    shown = commands.add_parser("table", help="what the rows say")
    shown.add_argument("--against", help="the row to compare with, as the table names it")
    for command in (one, shown):
        command.add_argument("--dev", action="store_true", help="only stories held out of the training ones")
        command.add_argument("--shape", choices=SHAPES, default="reference")
    for command in commands.choices.values():
        command.add_argument("--threads", type=int, default=argparse.SUPPRESS, help="threads of PyTorch")
        command.add_argument("--results", type=Path, default=argparse.SUPPRESS, help="the file of rows")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    results = getattr(args, "results", None)
    if args.command == "table":
        results = results or results_file(prepare_stories())
        print(table(measure(results, split="dev" if args.dev else "valid", shape=args.shape, against=args.against)))
        return
    stories = prepare_stories()
    results = results or results_file(stories)
    if args.command == "all":
        campaign(args.steps, results, stories)
    else:
        run(
            args.recipe,
            args.steps,
            args.seed,
            results=results,
            stories=stories,
            learning_rate=args.lr,
            shape=args.shape,
            dev_only=args.dev,
            overrides=dict(args.overrides),
            variant=args.variant,
        )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
