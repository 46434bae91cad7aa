"""Compare runs: rank them, find what differs between them, and set both as a table of text."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from tinystories.common.console import escape_control, plural
from tinystories.common.recorded_run import RecordedRun, Score
from tinystories.reporting.formats import short_count

_CONDITIONS = ("device", "device_name", "precision", "torch", "threads")  # these decide the bits too
_ENDS = {"FINISHED": "", "FAILED": "failed", "KILLED": "stopped"}
_MIN_CELL = 6  # a narrow terminal cuts no column below this


class Entry(NamedTuple):
    """A run in its place. `rank`: None where it has none, and `note` says why."""

    rank: int | None
    name: str
    note: str
    run: RecordedRun


class Comparison(NamedTuple):
    """The runs, the best first; a table with a row for each, and what has to be said of it."""

    entries: list[Entry]
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]


def best_score(run: RecordedRun) -> Score | None:
    """That of the epoch with the fewest bits per byte."""
    return min(run.scores, key=lambda score: score.bits_per_byte, default=None)


def compare(runs: Sequence[RecordedRun], others: int = 0) -> Comparison:
    """Rank the finished runs by their fewest bits per byte, which compare between tokenizers, unlike losses.

    Only runs of the same validation stories are ranked: those of which there are most, then the newest.
    `others`: how many runs are not among them.
    """
    entries = _ranked(runs)
    differing = _with_short_names(differences([entry.run for entry in entries]))
    columns: dict[str, list[str]] = {
        "#": [str(entry.rank or "–") for entry in entries],
        "run": [entry.name for entry in entries],
    }
    best = [best_score(entry.run) for entry in entries]
    columns["bits/byte"] = [f"{score.bits_per_byte:.4f}" if score else "–" for score in best]
    columns["valid loss"] = [f"{score.loss:.4f}" if score else "–" for score in best]
    last = [f"{entry.run.scores[-1].loss:.4f}" if entry.run.scores else "–" for entry in entries]
    if last != columns["valid loss"]:
        columns["last loss"] = last
    seen = [short_count(max((tokens for tokens, _ in entry.run.losses), default=0)) for entry in entries]
    if len(set(seen)) > 1:
        columns["tokens"] = seen
    columns |= differing
    if any(entry.note for entry in entries):
        columns["note"] = [entry.note for entry in entries]
    return Comparison(
        entries,
        list(columns),
        [list(row) for row in zip(*columns.values(), strict=True)],
        _notes(entries, differing, others),
    )


def differences(runs: Sequence[RecordedRun]) -> dict[str, list[str]]:
    """The parameters and conditions that are not equal in all runs that have any: each with a value for each run."""
    found = {}
    for group, keep in (("params", None), ("environment", _CONDITIONS)):
        tables: list[dict[str, str]] = [getattr(run, group) for run in runs]
        for name in dict.fromkeys(name for table in tables for name in table):
            # The runs are of one experiment and one record; where that lies is no property of a run.
            if name.startswith("mlflow.") or (keep and name not in keep):
                continue
            values = [table.get(name) for table in tables]
            if len({_canonical(value) for value, table in zip(values, tables, strict=True) if table}) > 1:
                found[name] = ["–" if value is None else value or "(empty)" for value in values]
    return found


def _canonical(value: str | None) -> object:
    """30 equals 30.0, and False equals false."""
    try:
        number = float(value or "")
    except ValueError:
        return value.lower() if value and value.lower() in ("true", "false") else value
    return value if math.isnan(number) else number


def _ranked(runs: Sequence[RecordedRun]) -> list[Entry]:
    newest = sorted(runs, key=lambda run: -run.started)
    finished = [run for run in newest if run.status == "FINISHED" and run.scores]
    digests = Counter(run.validation for run in finished if run.validation)
    reference = digests.most_common(1)[0][0] if digests else None  # of equally many, the first counted: the newest
    twice = {name for name, count in Counter(run.name for run in runs).items() if count > 1}

    def name(run: RecordedRun) -> str:
        return f"{run.name} ({run.id[:8]})" if run.name in twice else run.name

    def by_bits(run: RecordedRun) -> float:
        best = best_score(run)
        return best.bits_per_byte if best else float("inf")

    ranked = sorted((run for run in finished if run.validation == reference and reference), key=by_bits)
    entries = [Entry(number, name(run), "", run) for number, run in enumerate(ranked, start=1)]
    for run in sorted((run for run in newest if run not in ranked), key=by_bits):
        note = _ENDS.get(run.status, "not finished")
        if not note:
            note = "other validation data" if run.validation and run.scores else "not published"
        entries.append(Entry(None, name(run), note, run))
    return entries


def _with_short_names(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """The same by the last part of each name, where no two have it in common."""
    ends = Counter(name.rpartition(".")[2] for name in found)
    short = {name: name.rpartition(".")[2] for name in found}
    return {short[name] if ends[short[name]] == 1 else name: values for name, values in found.items()}


def _notes(entries: Sequence[Entry], differing: dict[str, list[str]], others: int) -> list[str]:
    notes = []
    if others:
        notes.append(f"{plural(others, 'older run')} left out: --last {len(entries) + others} shows all.")
    if any(entry.note == "other validation data" for entry in entries):
        notes.append("Figures on other validation data do not compare with the ranked ones.")
    if any(name.rpartition(".")[2] == "vocab_size" for name in differing):
        notes.append("Losses of other vocabularies do not compare; bits per byte do.")
    if len(entries) > 1 and not differing:
        notes.append("No parameter differs between these runs.")
    return notes


def as_text(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """The table in lines, each cell literal. With a `width` the widest columns are cut until they fit, then left out.

    A line below the table names those that are left out.
    """
    cells = [[escape_control(cell) for cell in row] for row in (columns, *rows)]
    sizes = [max(cell_len(row[index]) for row in cells) for index in range(len(columns))]
    left_out: list[str] = []
    while width and sum(sizes) + 2 * (len(sizes) - 1) > width and len(sizes) > 1:
        widest = max(range(len(sizes)), key=sizes.__getitem__)
        if sizes[widest] > _MIN_CELL:
            sizes[widest] -= 1
        else:
            left_out.insert(0, cells[0][len(sizes) - 1])
            sizes.pop()
    lines = [
        "  ".join(_fitted(cell, size, number) for number, (cell, size) in enumerate(zip(row, sizes, strict=False)))
        for row in cells
    ]
    return [line.rstrip() for line in lines] + ([f"Not shown here: {', '.join(left_out)}"] if left_out else [])


def _fitted(cell: str, size: int, column: int) -> str:
    if cell_len(cell) > size:
        cell = set_cell_size(cell, size - 1) + "…"
    padding = " " * (size - cell_len(cell))
    return cell + padding if column == 1 else padding + cell  # names to the left, numbers to the right
