"""The MLflow run of a training, and how `publish` brings it level with the files.

Files on disk are the truth, and MLflow is a view of them. `mlflow_store` finds the place. Only these two import
mlflow, and only inside functions: the import takes seconds, for which a training should not wait (`live_run` does it in
the background).
"""

import json
import re
import textwrap
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from tinystories.common.mlflow_limits import MAX_PARAM, MAX_RUN_NAME, MAX_TAG, cut, cut_source
from tinystories.common.urls import redact
from tinystories.tracking.mlflow_store import (
    connect,
    find_experiment,
    keep_beside,
    settle_artifact,
    settle_environment,
)
from tinystories.tracking.record import Dataset, MetricPoint, Record
from tinystories.tracking.run_choice import EXPERIMENT_TAG, Points, TrainingRuns

_MAX_SUMMARY = 300  # characters of MLflow's errors, which may be pages, that are shown

Status = Literal["FINISHED", "KILLED", "FAILED"]


class Run:
    """One run in the store, open for writing. Every call waits for MLflow and raises what it raises."""

    def __init__(self, client: Any, runs: TrainingRuns, run: Any, name: str | None) -> None:
        """`name`: of the experiment that is at work, if it has one; the run takes it over."""
        self._client, self._runs, self._run = client, runs, run
        self._name = name and cut(name, MAX_RUN_NAME)
        self._points = Points(client, run.info.run_id)
        self.id: str = run.info.run_id
        self.is_described = bool(run.data.params)
        self.is_finished = run.info.status == "FINISHED"

    def describe(self, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Set name, tags, and those parameters that the run has not: MLflow lets none be changed."""
        from mlflow.entities import Param, RunTag

        if self._name and self._name != self._run.info.run_name:
            self._client.update_run(self.id, name=self._name)
        there, named = self._run.data.params, {EXPERIMENT_TAG: self._name} if self._name else {}
        missing = [Param(name, value) for name, value in _cut(params).items() if name not in there]
        all_tags = [RunTag(name, cut(value, MAX_TAG)) for name, value in {**tags, **named}.items()]
        self._client.log_batch(self.id, params=missing, tags=all_tags, synchronous=True)

    def start(self) -> None:
        """Show the run as running, also where it had ended before."""
        self._runs.claim(self._run)

    def log(self, points: Iterable[MetricPoint]) -> None:
        """Add the points of steps that the run has not."""
        from mlflow.entities import Metric

        new = [Metric(*point) for point in self._points.add(points)]
        # The client cuts this into calls of at most 1,000, a server's limit.
        self._client.log_batch(self.id, metrics=new, synchronous=True)

    def contradicts(self, points: Iterable[MetricPoint]) -> bool:
        """Whether the run is of another training: it has other results at the steps of these points."""
        return self._points.contradict(points)

    def supersede(self) -> "Run":
        """A new run that stands in the place of this one, of the same name and without points."""
        new = self._runs.create(self._run.data.tags.get(EXPERIMENT_TAG))
        self._runs.supersede([self._client.get_run(self.id)], new)
        return Run(self._client, self._runs, new, self._name)

    def reconcile(self, points: list[MetricPoint]) -> str:
        """Once it has ended: leave one of the runs that hold the same. Returns the id of the one that stands."""
        return self._runs.reconcile(self.id, points)

    def inputs(self, datasets: Iterable[Dataset]) -> None:
        """Name the stories as the run's inputs. MLflow keeps one of each name and digest."""
        from mlflow import entities

        inputs = [
            entities.DatasetInput(
                entities.Dataset(
                    name=dataset.name,
                    digest=dataset.sha256[:16],
                    source_type="code",  # of which mlflow.data.get_source expects such a source:
                    source=cut_source({"tags": json.loads(dataset.detail)}),
                    profile=dataset.profile,
                ),
                [entities.InputTag("mlflow.data.context", dataset.context)],
            )
            for dataset in datasets
        ]
        self._client.log_inputs(self.id, inputs)

    def text(self, path: str, content: str) -> None:
        """Write or replace one artifact."""
        self._client.log_text(self.id, content, path)

    def files(self, path: Path, place: str | None = None) -> None:
        """Copy a file, or all that a directory holds, among the artifacts, into the directory `place` of them."""
        # One by one: log_artifacts would write into the old copy, which may be read-only, as the file itself may be.
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                inside = file.parent.relative_to(path) if path.is_dir() else Path()
                directory = (Path(place or "") / inside).as_posix()
                self._client.log_artifact(self.id, str(file), None if directory == "." else directory)
                settle_artifact(self._run, f"{directory}/{file.name}")

    def end(self, status: Status, timestamp: int | None = None) -> None:
        """Set how and when (milliseconds since 1970, or now) the run ended."""
        # A clock that was set back in between would make the run end before it started.
        now = round(time.time() * 1000)
        self._client.set_terminated(self.id, status, max(timestamp or now, self._run.info.start_time))


def open_live(
    *,
    uri: str,
    experiment: str,
    root: Path,
    key: str,
    params: Mapping[str, str],
    run_id: str | None,
    name: str | None,
) -> Run | None:
    """The run that the training `key` streams to: see `TrainingRuns.to_stream`. `root`: the user's repository."""
    # A call in vain is tried three times; ten seconds each, so that a dead server is found out soon.
    client, runs = _training_runs(uri, experiment, root, key, params, name, call_timeout=10)
    run = runs.to_stream(run_id)
    return Run(client, runs, keep_beside(client, uri, run), name) if run else None


def open_run(
    record: Record, *, uri: str, experiment: str, root: Path, params: Mapping[str, str], name: str | None
) -> Run:
    """The run of the record: see `TrainingRuns.of_record`. `root`: the user's repository."""
    client, runs = _training_runs(uri, experiment, root, record.key, params, name, call_timeout=30)
    return Run(client, runs, keep_beside(client, uri, runs.of_record(record)), name)


def _training_runs(
    uri: str, experiment: str, root: Path, key: str, params: Mapping[str, str], name: str | None, call_timeout: int
) -> tuple[Any, TrainingRuns]:
    """`call_timeout`: seconds before a server's answer is given up."""
    settle_environment(call_timeout)
    client = connect(uri)
    experiment_id = find_experiment(client, experiment, uri, root)
    return client, TrainingRuns(client, experiment_id, key, _cut(params), root, name)


def _cut(params: Mapping[str, str]) -> dict[str, str]:
    return {name: cut(value, MAX_PARAM) for name, value in params.items()}


def reason(error: Exception) -> str:
    """What went wrong, in one line of bearable length, without credentials."""
    # Errors quote pieces of an address too, such as `user:password@host` or `url: /?token=...`.
    said = str(error).partition("[SQL: ")[0]  # what a database was asked helps nobody
    text = re.sub(r"\?\S*|[^\s/]*@", "", redact(said))
    return textwrap.shorten(text, _MAX_SUMMARY, placeholder=" ...") or type(error).__name__
