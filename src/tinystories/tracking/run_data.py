"""What is sent to MLflow of one training: metrics, data sets, the table of epochs and the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tinystories.common.artifacts import Parent


class MetricPoint(NamedTuple):
    """One value of one metric. `timestamp`: milliseconds since 1970; `step`: optimizer steps done."""

    name: str
    value: float
    timestamp: int
    step: int


class Dataset(NamedTuple):
    """One file of stories that the training read. `detail`: where it is from. `profile`: its size, as JSON."""

    name: str
    sha256: str
    context: str
    detail: dict[str, Any]
    profile: str

    @property
    def digest(self) -> str:
        """What MLflow shows of its sha256."""
        return self.sha256[:16]


class Checkpoint(NamedTuple):
    """The weights after an epoch, and what the validation stories said of them."""

    epoch: int
    step: int
    directory: Path
    weights_sha256: str
    points: list[MetricPoint]


@dataclass(frozen=True)
class RunData:
    """Everything that the files of a finished training say. Times: milliseconds since 1970."""

    run_id: str | None
    key: str
    name: str | None
    started: int
    ended: int
    environment: dict[str, Any]
    training_points: list[MetricPoint]
    final_points: list[MetricPoint]  # of the evaluation
    epoch_table: dict[str, list[Any]]  # `columns`, and `data` row by row
    datasets: list[Dataset]  # training, validation
    checkpoints: list[Checkpoint]  # the last is the training's last
    published: Checkpoint  # one of them
    bits_per_byte: float  # of that one, in the evaluation
    report: str
    parent: Parent | None = None

    @property
    def points(self) -> list[MetricPoint]:
        """All points, of the training and of its evaluation."""
        return self.training_points + self.final_points
