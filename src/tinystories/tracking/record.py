"""What the files say of one training, in the form in which MLflow is told it."""

from dataclasses import dataclass
from typing import Any, NamedTuple


class MetricPoint(NamedTuple):
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


@dataclass(frozen=True)
class Record:
    """All that the files say of one training. Times: milliseconds since 1970."""

    run_id: str | None
    key: str
    name: str | None
    started: int
    ended: int
    environment: dict[str, Any]
    points: list[MetricPoint]  # of the training; `final`: of its evaluation
    final: list[MetricPoint]
    table: dict[str, list[Any]]
    datasets: list[Dataset]
    report: str
