"""Quality at equal tokens on real stories: this project's recipe compared with others, several seeds.

    python -m benchmarks.quality run ours --steps 400 --seed 1      one training; its row goes to benchmarks/results/
    python -m benchmarks.quality run ours --steps 400 --seed 1 --dev --set train.learning_rate=0.01
    python -m benchmarks.quality all                                the whole campaign; continues where it stopped
    python -m benchmarks.quality table [--dev] [--shape small]      what the rows say

Recipes (recipes.py) are searched on `dev`, stories held out of the training stories: with --dev a run does not touch
valid.txt. All recipes train on the same token files; scores are in fp32, each token once.
"""

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.recipes import LIBRARY, RATES, RECIPES, SHAPES, describe, for_scoring, make_params, prepare
from benchmarks.results import RESULTS
from benchmarks.results import table as format_table
from benchmarks.stories import VOCAB_SIZE, Stories, prepare_stories
from tinystories.common.console import info, warn
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.inference.loss_eval import evaluate_loss
from tinystories.training.backend import choose_backend, describe_environment

SEEDS = (1, 2, 3)
GPT2_RATES = (6e-4, 1e-3, 1.5e-3)
LOG_EVERY = 20  # steps
SCORED_AT_ONCE = 64  # windows

Row = dict[str, Any]


def results_file() -> Path:
    """benchmarks/results/quality-MACHINE.jsonl, the machine named by what it computes on."""
    name = str(
        describe_environment(choose_backend(make_params("ours", 1, 1, "reference", {}), VOCAB_SIZE))["device_name"]
    )
    return RESULTS / f"quality-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.jsonl"


def read_rows(path: Path) -> list[Row]:
    """All rows so far. Errors: UserError where a line is no row."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(f"{path}: a line is not JSON ({error}); take it out") from None


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
    params: Params | None = None,
) -> Row:
    """Do one training, score it and append its row to `results`; where that row is there already, return it.

    Errors: UserError, as `make_params`.
    """
    overrides = overrides or {}
    params = params or make_params(recipe, steps, seed, shape, overrides)
    if learning_rate is not None and recipe not in RATES:
        raise UserError(
            f"--lr is for {' and '.join(RATES)}; for {recipe} say --set train.learning_rate={learning_rate}"
        )
    backend = choose_backend(params, stories.vocab_size)
    rate = learning_rate or RATES.get(recipe, params.train.learning_rate)
    what = describe(recipe, params, rate, stories, backend.precision)
    names = {"recipe": recipe, "shape": shape, "overrides": overrides}
    same = [row for row in read_rows(results) if row["identity"] == what["identity"]]
    if not dev_only:
        same = [row for row in same if row["valid_loss"] is not None]
    if found := next((row for row in same if row.items() >= names.items()), None):
        info(f"{_label(found)}, {steps:,} steps, seed {seed}: done before")
        return found
    # Where two recipes compute the same (the trial's, while it is today's), one training serves both.
    measured = {k: v for k, v in same[0].items() if k not in names} if same else None
    if measured is None:
        measured = {**what, **_train(recipe, params, rate, stories, dev_only)}
    row = {**names, **measured}
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    info(f"{_label(row)}, {steps:,} steps, seed {seed}: dev {row['dev_loss']:.4f}, valid {row['valid_loss'] or '-'}")
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


def campaign(results: Path, stories: Stories) -> None:
    """Everything that the table shows: one seed of all first, then the others."""
    best = RATES["gpt2"]
    for seed in SEEDS:
        run("ours", 400, seed, results=results, stories=stories)
        if seed == SEEDS[0]:
            tried = [run("gpt2", 400, seed, results=results, stories=stories, learning_rate=r) for r in GPT2_RATES]
            best = min(tried, key=lambda row: float(row["dev_loss"]))["settings"]["learning_rate"]
        run("gpt2", 400, seed, results=results, stories=stories, learning_rate=best)
        run("baseline", 400, seed, results=results, stories=stories)
        try:
            run("trial", 400, seed, results=results, stories=stories)
        except UserError as error:
            warn(f"the trial's recipe is left out: {error}")
        run("ours", 1000, seed, results=results, stories=stories)
        run("gpt2", 1000, seed, results=results, stories=stories, learning_rate=best)


def measure(results: Path | None = None, split: str = "valid", shape: str = "reference") -> dict[str, Any]:
    """The table: means over seeds, and how much more than ours. {"title", "columns", "rows", "notes"}."""
    rows = [row for row in read_rows(results or results_file()) if row["shape"] == shape]
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if row[f"{split}_loss"] is not None:
            groups.setdefault((row["steps"], _label(row)), []).append(row)
    table, notes = [], []
    for (steps, label), group in groups.items():
        newest, older = _newest(group)
        if older:
            notes.append(f"{label}, {steps:,} steps: {older} rows of an older recipe or source are left out.")
        loss = _mean(newest, f"{split}_loss")
        ours, _ = _newest(groups.get((steps, "ours"), []))
        # Of the same seeds, so that a row with fewer seeds is not compared with others' luck.
        paired = {row["seed"]: row[f"{split}_loss"] for row in ours}
        gaps = [row[f"{split}_loss"] - paired[row["seed"]] for row in newest if row["seed"] in paired]
        gap = f"{statistics.fmean(gaps):+.3f}" if gaps and label != "ours" else ""
        seeds = ", ".join(str(row["seed"]) for row in newest)
        speed = round(_mean(newest, "tokens_per_second"))
        bits = _mean(newest, f"{split}_bits_per_byte")
        cells = [f"{steps:,}", label, seeds, f"{loss:.3f}", _spread(newest, f"{split}_loss"), f"{bits:.4f}", gap]
        table.append((steps, loss, [*cells, f"{speed:,}"]))
    if table:
        notes += [
            f"{rows[-1]['machine']}; {split} stories of the sample; steps of 32 × 128 tokens; "
            f"the training stories are seen again after about 340 steps.",
            "The GPT-2 baseline's learning rate is the best of those shown, by stories held out of the training ones.",
            "The trial that this recipe began with reported 2.84 nats (GPT-2 baseline: 3.63): 400 steps, one seed.",
        ]
    columns = ["steps", "recipe", "seeds", "loss (nats/token)", "spread", "bits per byte", "above ours", "tokens/s"]
    return {
        "title": f"Quality at equal tokens ({split}, {shape} shape)",
        "columns": columns,
        "rows": [dict(zip(columns, cells, strict=True)) for _, _, cells in sorted(table, key=lambda entry: entry[:2])],
        "notes": notes,
    }


def _label(row: Row) -> str:
    if row["recipe"] in LIBRARY:
        return " ".join([row["recipe"], *(f"{key}={value}" for key, value in row["overrides"].items())])
    return f"{row['recipe']} {row['settings']['learning_rate']:g}"


def _newest(group: list[Row]) -> tuple[list[Row], int]:
    """The rows that compute as the last one does, one a seed, and how many others there are."""
    if not group:
        return [], 0
    keys = ("settings", "model", "stories", "precision", "source")
    same = [row for row in group if all(row[key] == group[-1][key] for key in keys)]
    return sorted({row["seed"]: row for row in same}.values(), key=lambda row: int(row["seed"])), len(group) - len(same)


def _mean(rows: Iterable[Row], key: str) -> float:
    return statistics.fmean(row[key] for row in rows)


def _spread(rows: list[Row], key: str) -> str:
    values = [row[key] for row in rows]
    return f"{max(values) - min(values):.3f}" if len(values) > 1 else ""


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
    commands.add_parser("all", help="the whole campaign")
    shown = commands.add_parser("table", help="what the rows say")
    for command in (one, shown):
        command.add_argument("--dev", action="store_true", help="only stories held out of the training ones")
        command.add_argument("--shape", choices=SHAPES, default="reference")
    for command in commands.choices.values():
        command.add_argument("--threads", type=int, default=argparse.SUPPRESS, help="threads of PyTorch")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.command == "table":
        print(format_table(measure(split="dev" if args.dev else "valid", shape=args.shape)))
    elif args.command == "all":
        campaign(results_file(), prepare_stories())
    else:
        run(
            args.recipe,
            args.steps,
            args.seed,
            results=results_file(),
            stories=prepare_stories(),
            learning_rate=args.lr,
            shape=args.shape,
            dev_only=args.dev,
            overrides=dict(args.overrides),
        )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
