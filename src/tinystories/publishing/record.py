"""What the record of a run says: metrics, parameters, tags and tables, as the files have them.

`tracking` sends it to MLflow. The stream of a training and `publish` both name their metrics here, so they agree.
"""

import json
import math
import reprlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tinystories.common import paths
from tinystories.common.errors import UserError, shorten
from tinystories.common.reading import read_csv, read_json
from tinystories.common.urls import redact
from tinystories.tracking.metrics import Row, epoch_metrics, final_metrics, history_metrics
from tinystories.tracking.record import Dataset, MetricPoint, Record


def read_record() -> Record:
    """Read the record from the stages' files in the current directory.

    Errors: UserError where a file is missing or not as its stage writes it.
    """
    for path in (paths.CHECKPOINT, paths.SAMPLES, paths.PLOT, paths.REPORT, paths.PARAMS):
        if not path.exists():
            raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro)")
    run = read_json(paths.RUN)
    with _blame(paths.RUN):
        key, environment = _text(run["key"]), dict(run["environment"])
        name, run_id = (None if run[field] is None else _text(run[field]) for field in ("name", "run_id"))
        started, ended = (round(datetime.fromisoformat(run[at]).timestamp() * 1000) for at in ("started", "ended"))
        ended = max(started, ended)  # of a clock that was set back
    train, evaluation = read_json(paths.TRAIN_METRICS), read_json(paths.EVALUATION)
    with _blame(paths.TRAIN_METRICS):
        steps = int(train["steps"])
    with _blame(paths.EVALUATION):
        final = [MetricPoint(name, value, ended, steps) for name, value in final_metrics(evaluation).items()]
    manifest = read_json(paths.RAW_MANIFEST)
    with _blame(paths.RAW_MANIFEST):
        source, detail = _text(manifest["source"]), json.dumps(manifest["detail"], ensure_ascii=False)
        datasets = [
            Dataset(source, _text(manifest[part]["sha256"]), context, detail, json.dumps(manifest[part]))
            for part, context in (("train", "training"), ("valid", "validation"))
        ]
    return Record(
        run_id=run_id,
        key=key,
        name=name,
        started=started,
        ended=ended,
        environment=environment,
        points=[
            *_points(paths.HISTORY, started, ended, history_metrics),
            *_points(paths.EPOCHS, started, ended, epoch_metrics),
        ],
        final=final,
        table=_table(paths.EPOCHS),
        datasets=datasets,
        report=redact(_read_report()),
    )


class _blame:
    """Turn what goes wrong inside the block into one line that names the file."""

    def __init__(self, path: Path, line: int | None = None) -> None:
        self._place = f"{path}, line {line}" if line else str(path)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError):
            raise UserError(f"{self._place}: {error} is missing; run the stage that writes it again") from None
        if isinstance(error, TypeError | ValueError | OverflowError):
            problem = shorten(str(error), 200)
            raise UserError(f"{self._place}: {problem}; run the stage that writes it again") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"found {reprlib.repr(value)}, expected text")
    return value


def _read_report() -> str:
    try:
        return paths.REPORT.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{paths.REPORT}: not UTF-8 at byte {error.start}; run the stage plot again") from None


def _points(path: Path, started: int, ended: int, metrics: Callable[[Row], dict[str, float]]) -> list[MetricPoint]:
    points = []
    for line, row in enumerate(read_csv(path, "train"), start=2):
        with _blame(path, line):
            timestamp = min(started + round(1000 * float(row["seconds"])), ended)
            points += [MetricPoint(name, value, timestamp, int(row["step"])) for name, value in metrics(row).items()]
    return points


def _table(path: Path) -> dict[str, list[Any]]:
    """The CSV as MLflow's tables have it: `columns`, and `data` row by row."""
    rows = read_csv(path, "train")
    with _blame(path):
        data = [[_number(text) for text in row.values()] for row in rows]
    return {"columns": list(rows[0]) if rows else [], "data": data}


def _number(text: str) -> int | float | None:
    value = float(text)
    if not math.isfinite(value):
        return None  # JSON has no word for it
    return int(value) if text.lstrip("-").isdigit() else value
