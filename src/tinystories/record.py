"""What the record of a run says: metrics, parameters, tags and tables, as the files have them.

`tracking` sends it to MLflow. The stream of a training and `publish` both name their metrics here, so they agree.
"""

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tinystories import paths
from tinystories.addresses import without_credentials
from tinystories.errors import UserError, shorten
from tinystories.params import Params
from tinystories.reading import read_csv, read_json

_HISTORY = ("loss", "learning_rate", "gradient_norm", "tokens_per_second")
_EPOCH = ("train_loss", "train_ppl", "valid_loss", "valid_ppl", "valid_bits_per_byte")
_FINAL = ("valid_loss", "valid_ppl", "valid_bits_per_byte")

Row = Mapping[str, Any]  # of a CSV (text) or of the training loop (numbers)


class Point(NamedTuple):
    """One value of one metric. `timestamp`: milliseconds since 1970; `step`: optimizer steps done."""

    name: str
    value: float
    timestamp: int
    step: int


class Dataset(NamedTuple):
    """One file of stories that the training read. `detail`, `profile`: JSON of where it is from, how large it is."""

    name: str
    sha256: str
    context: str
    detail: str
    profile: str


def history_metrics(row: Row) -> dict[str, float]:
    """The metrics of one row of history.csv: `train/loss` and so on."""
    return {f"train/{column}": float(row[column]) for column in _HISTORY}


def epoch_metrics(row: Row) -> dict[str, float]:
    """The metrics of one row of epochs.csv: `epoch/train_loss` and so on."""
    return {f"epoch/{column}": float(row[column]) for column in _EPOCH}


def final_metrics(evaluation: Row) -> dict[str, float]:
    """The metrics of evaluate.json: `final/valid_loss` and so on."""
    return {f"final/{column}": float(evaluation[column]) for column in _FINAL}


def flat_params(params: Params) -> dict[str, str]:
    """All parameters by dotted name (`train.batch_size`), without the credentials that an address may hold.

    Numbers and words as params.yaml writes them, so that they read in MLflow as they do in DVC: 30, not 30.0.
    """

    def flatten(prefix: str, value: Any, written: Any) -> dict[str, str]:
        if isinstance(value, dict):
            parts = (flatten(f"{prefix}.{key}", inner, written.get(key)) for key, inner in value.items())
            return {name: text for part in parts for name, text in part.items()}
        as_written = written if written == value else value  # 30 == 30.0
        text = as_written if isinstance(as_written, str) else json.dumps(as_written, ensure_ascii=False)
        return {prefix.removeprefix("."): without_credentials(text)}

    values = params.model_dump()
    return flatten("", values, params.written or values)


def environment_tags(environment: Mapping[str, object]) -> dict[str, str]:
    """Tags that say what the training ran on, from run.json's `environment`."""
    # MLflow's own name for the commit: its pages show it as the run's source.
    names = {"git_commit": "mlflow.source.git.commit"}
    return {names.get(key, f"environment.{key}"): str(value) for key, value in environment.items() if value is not None}


@dataclass(frozen=True)
class Record:
    """All that the files say of one training. Times: milliseconds since 1970."""

    run_id: str | None
    key: str
    name: str | None
    started: int
    ended: int
    environment: dict[str, Any]
    points: list[Point]  # of the training; `final`: of its evaluation
    final: list[Point]
    table: dict[str, list[Any]]
    datasets: list[Dataset]
    report: str


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
        final = [Point(name, value, ended, steps) for name, value in final_metrics(evaluation).items()]
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
        report=without_credentials(_read_report()),
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


def _points(path: Path, started: int, ended: int, metrics: Callable[[Row], dict[str, float]]) -> list[Point]:
    points = []
    for line, row in enumerate(read_csv(path, "train"), start=2):
        with _blame(path, line):
            timestamp = min(started + round(1000 * float(row["seconds"])), ended)
            points += [Point(name, value, timestamp, int(row["step"])) for name, value in metrics(row).items()]
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
