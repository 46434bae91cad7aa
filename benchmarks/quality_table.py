"""The rows of quality.py as a table: means over the seeds, and paired differences with their standard errors."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.recipes import RATES
from tinystories.common.errors import UserError

Row = dict[str, Any]
SAME = ("settings", "model", "stories", "precision", "source")  # of rows that differ in their seed alone


class Difference(NamedTuple):
    """Of one recipe's losses from another's, on the seeds that both have. Nats a token; below 0 is better.

    `error`: the standard error of the mean, None with a single pair.
    """

    pairs: int
    mean: float
    error: float | None

    @property
    def clear(self) -> bool:
        """Whether the mean is at least two standard errors from 0. Otherwise it counts as no gain."""
        return self.error is not None and abs(self.mean) >= 2 * self.error


def read_rows(path: Path) -> list[Row]:
    """All rows so far. Errors: UserError where a line is no row."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(f"{path}: a line is not JSON ({error}); take it out") from None


def label(row: Row) -> str:
    """Name the row's recipe with what is not as usual, such as `ours train.learning_rate=0.01`."""
    if row["recipe"] in RATES:
        return f"{row['recipe']} {row['settings']['learning_rate']:g}"
    overrides = [f"{key}={value}" for key, value in row["overrides"].items()]
    return " ".join([row["recipe"], *overrides, *([row["variant"]] if row.get("variant") else [])])


def newest(group: list[Row]) -> tuple[list[Row], int]:
    """The rows that compute as the last one does, one a seed, and how many others there are."""
    if not group:
        return [], 0
    same = [row for row in group if all(row[key] == group[-1][key] for key in SAME)]
    return sorted({row["seed"]: row for row in same}.values(), key=lambda row: int(row["seed"])), len(group) - len(same)


def difference(rows: Iterable[Row], base: Iterable[Row], key: str) -> Difference | None:
    """Compare on equal seeds, so that a row with fewer seeds is not compared with others' luck."""
    losses = {row["seed"]: row[key] for row in base}
    gaps = [row[key] - losses[row["seed"]] for row in rows if row["seed"] in losses]
    if not gaps:
        return None
    error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else None
    return Difference(len(gaps), statistics.fmean(gaps), error)


def groups_of(rows: Iterable[Row], split: str, shape: str) -> dict[tuple[int, str], list[Row]]:
    """The rows that were scored on the split, by their number of steps and their label."""
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if row["shape"] == shape and row[f"{split}_loss"] is not None:
            groups.setdefault((row["steps"], label(row)), []).append(row)
    return groups


def best_rate(groups: dict[tuple[int, str], list[Row]], steps: int, recipe: str, key: str) -> list[Row]:
    """The rows of the recipe as it is, at the best of the rates that have the most seeds."""
    found = [
        newest(group)[0]
        for (length, _), group in groups.items()
        if length == steps and group[-1]["recipe"] == recipe and not group[-1].get("variant")
        and set(group[-1]["overrides"]) <= {"train.learning_rate"}
    ]  # fmt: skip
    return min(found, key=lambda rows: (-len(rows), mean(rows, key)), default=[])


def measure(path: Path, split: str = "valid", shape: str = "reference", against: str | None = None) -> dict[str, Any]:
    """The table: {"title", "columns", "rows", "notes"}.

    `against`: the label of the row to compare with; else ours at its best rate.
    Errors: UserError where no row has that label.
    """
    rows, key = read_rows(path), f"{split}_loss"
    groups = groups_of(rows, split, shape)
    if against and against not in {name for _, name in groups}:
        raise UserError(f"--against {against!r}: expected one of {', '.join(sorted({name for _, name in groups}))}")
    table, notes = [], []
    for (steps, name), group in groups.items():
        chosen, older = newest(group)
        if older:
            notes.append(f"{name}, {steps:,} steps: {older} rows of an older recipe or source are left out.")
        base = newest(groups.get((steps, against), []))[0] if against else best_rate(groups, steps, "ours", key)
        gap = None if base and label(base[0]) == name else difference(chosen, base, key)
        loss, bits = mean(chosen, key), mean(chosen, f"{split}_bits_per_byte")
        seeds = ", ".join(str(row["seed"]) for row in chosen)
        speed = f"{round(mean(chosen, 'tokens_per_second')):,}"
        table.append((steps, loss, [f"{steps:,}", name, seeds, f"{loss:.4f}", f"{bits:.4f}", *_cells(gap), speed]))
    if table:
        notes.append(f"{rows[-1]['machine']}; {split} stories of the sample; steps of 32 × 128 tokens.")
        notes.append("Differences are means over equal seeds ± their standard error; under two of these: no gain.")
    columns = [
        "steps",
        "recipe",
        "seeds",
        "loss (nats/token)",
        "bits per byte",
        "difference",
        "n",
        "verdict",
        "tokens/s",
    ]
    ordered: Sequence[tuple[int, float, list[str]]] = sorted(table, key=lambda entry: entry[:2])
    return {
        "title": f"Quality at equal tokens ({split}, {shape} shape)",
        "columns": columns,
        "rows": [dict(zip(columns, cells, strict=True)) for _, _, cells in ordered],
        "notes": notes,
    }


def _cells(gap: Difference | None) -> list[str]:
    if gap is None:
        return ["", "", ""]
    if gap.error is None:
        return [f"{gap.mean:+.4f}", "1", "one seed"]
    verdict = ("better" if gap.mean < 0 else "worse") if gap.clear else "no gain"
    return [f"{gap.mean:+.4f} ± {gap.error:.4f}", str(gap.pairs), verdict]


def mean(rows: Iterable[Row], key: str) -> float:
    """The mean of one figure over the rows."""
    return statistics.fmean(row[key] for row in rows)
