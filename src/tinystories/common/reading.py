"""Read the JSON and CSV files that stages write, strictly."""

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from tinystories.common.errors import UserError, shorten

MAX_JSON_BYTES = 100_000_000  # a manifest of very many files
MAX_JSON_DEPTH = 20  # nested objects and lists


def read_json(path: Path, largest: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object without duplicate keys, with finite numbers of 64 bits and valid Unicode.

    Errors: UserError where the file is missing, not such JSON, no object, or has more than `largest` bytes.
    """
    try:
        if path.stat().st_size > largest:
            raise ValueError(f"{path.stat().st_size:,} bytes; a file of its kind has less than {largest:,}")
        text = path.read_text(encoding="utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole_number,
            parse_float=_finite_number,
            parse_constant=_finite_number,
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # fails for a lone surrogate, such as "\\ud800"
        _check_depth(value)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro)") from None
    except (OSError, ValueError, RecursionError) as error:
        problem = shorten(str(error), 200)
        raise UserError(f"{path}: not readable as JSON ({problem}); run the stage that writes it again") from None
    if not isinstance(value, dict):
        found = type(value).__name__
        raise UserError(f"{path}: found a JSON {found}, expected an object; run the stage that writes it again")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{shorten(twice)!r} stands twice in one object")
    return value


def _whole_number(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"{shorten(text, 30)} has more than 64 bits")
    return int(text)


def _finite_number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shorten(text, 30)} is no finite number")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


def read_csv(path: Path, stage: str) -> list[dict[str, str]]:
    """Read a CSV file with a header: each row as text by column, as long as the header, without duplicate columns.

    Errors: UserError, naming the stage that writes it, where the file is missing or not of that form.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise ValueError("a column stands twice")
            rows = []
            for row in reader:
                if len(row) != len(header):
                    raise ValueError(f"line {reader.line_num} has {len(row)} values, the header has {len(header)}")
                rows.append(dict(zip(header, row, strict=True)))
            return rows
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro {stage})") from None
    except (OSError, ValueError, csv.Error) as error:
        problem = f"{path}: not readable as CSV ({shorten(str(error), 200)})"
        raise UserError(f"{problem}; run the stage that writes it again (dvc repro -f -s {stage})") from None
