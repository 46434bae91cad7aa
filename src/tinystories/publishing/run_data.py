"""Read what the files of the stages say of a training, in the form in which MLflow gets it."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from tinystories.common import paths
from tinystories.common.artifacts import EpochIndex, EpochRow, Evaluation, HistoryRow, Manifest, Run, TrainMetrics
from tinystories.common.corpus_figures import CorpusFigures
from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.common.story_figures import StoryFigures
from tinystories.common.urls import redact
from tinystories.tracking.metrics import (
    corpus_metrics,
    epoch_metrics,
    final_metrics,
    history_metrics,
    model_metrics,
    story_metrics,
)
from tinystories.tracking.run_data import Checkpoint, Dataset, MetricPoint, RunData


def read_run_data(model: Literal["last", "best"]) -> RunData:
    """Read and check all files in the current directory. `model`: the one to publish.

    Errors: UserError where one is missing or damaged.
    """
    for path in (
        paths.CHECKPOINT, paths.published(model), paths.SAMPLES, paths.PLOT, paths.REPORT, paths.REPORT_HTML,
        paths.MODEL_CARD, paths.PARAMS,
    ):  # fmt: skip
        if not path.exists():
            raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro)")
    run, manifest = Run.read(), Manifest.read()
    epochs, index = EpochRow.read_table(), EpochIndex.read()
    started = _milliseconds(run.started)
    ended = max(started, _milliseconds(run.ended))  # the clock may have been set back

    def timestamp(row: HistoryRow | EpochRow) -> int:
        return min(started + round(1000 * row.seconds), ended)

    history_points = [_points(history_metrics(row), timestamp(row), row.step) for row in HistoryRow.read_table()]
    epoch_points = [_points(epoch_metrics(row), timestamp(row), row.step) for row in epochs]
    evaluation = Evaluation.read()
    last, best = epochs[-1].epoch, index.best
    checkpoints = {
        row.epoch: _checkpoint(row, timestamp(row), _directory(row.epoch, last, best))
        for row in epochs
        if row.epoch in {*index.epochs, last, best}
    }
    chosen = best if model == "best" else last
    if chosen not in checkpoints:
        raise UserError(f"{paths.EPOCH_INDEX}: best is {chosen}, but {paths.EPOCHS} has no such epoch; run: dvc repro")
    return RunData(
        run_id=run.run_id,
        key=run.key,
        name=run.name,
        started=started,
        ended=ended,
        environment=run.environment.model_dump(),
        training_points=[point for row in (*history_points, *epoch_points) for point in row],
        final_points=_points(
            {
                **final_metrics(evaluation),
                **corpus_metrics(CorpusFigures.read()),
                **story_metrics(StoryFigures.read()),
            },
            ended,
            TrainMetrics.read().steps,
        ),
        epoch_table={
            "columns": list(EpochRow.model_fields),
            "data": [list(row.model_dump().values()) for row in epochs],
        },
        datasets=[
            Dataset(manifest.source, file.sha256, context, manifest.detail, json.dumps(file.model_dump()))
            for file, context in ((manifest.train, "training"), (manifest.valid, "validation"))
        ],
        checkpoints=list(checkpoints.values()),
        published=checkpoints[chosen],
        bits_per_byte=evaluation.of(model).valid_bits_per_byte,
        report=_read_report(),
        parent=run.parent,
    )


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def _points(metrics: Mapping[str, float], timestamp: int, step: int) -> list[MetricPoint]:
    return [MetricPoint(name, value, timestamp, step) for name, value in metrics.items()]


def _directory(epoch: int, last: int, best: int) -> Path:
    if epoch == last:
        return paths.CHECKPOINT
    return paths.BEST if epoch == best else paths.epoch_checkpoint(epoch)


def _checkpoint(row: EpochRow, timestamp: int, directory: Path) -> Checkpoint:
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"{weights}: no such file; run the stage that writes it again (dvc repro -f -s train)")
    points = _points(model_metrics(row), timestamp, row.step)
    return Checkpoint(row.epoch, row.step, directory, sha256_of(weights), points)


def _read_report() -> str:
    try:
        return redact(paths.REPORT.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        problem = f"{paths.REPORT}: not UTF-8 at byte {error.start}"
        raise UserError(f"{problem}; run the stage that writes it again (dvc repro -f -s plot)") from None
