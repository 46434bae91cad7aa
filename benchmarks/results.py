"""Results of measurements: printed as a table, merged into one JSON file a machine and day."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.workload import ROOT
from tinystories.common.files import write_json
from tinystories.common.reading import read_json

RESULTS = ROOT / "benchmarks" / "results"

Result = dict[str, Any]  # {"title": str, "columns": [str], "rows": [{column: value}], "notes": [str], and more}


def result_file(device: torch.device) -> Path:
    """Where today's results of this kind of machine stand, such as `results/cpu-2026-11-22.json`."""
    return RESULTS / f"{machine.kind(device)}-{datetime.now(UTC):%Y-%m-%d}.json"


def merge(path: Path, device: torch.device, part: str, result: Result) -> None:
    """Write one part's result into the file; the other parts that it holds stay."""
    parts = read_json(path)["parts"] if path.exists() else {}
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    parts[part] = {"measured": measured, **result}
    write_json(path, {"machine": machine.describe(device), "parts": parts})


def table(result: Result) -> str:
    """Title, rows and notes as text."""
    rows: list[dict[str, Any]] = result.get("rows", [])
    columns: list[str] = result.get("columns") or list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_shown(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    right = [any(isinstance(row.get(column), int | float) for row in rows) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([result.get("title", ""), "", *lines, *(f"* {note}" for note in result.get("notes", []))])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
