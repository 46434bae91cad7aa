"""One MLflow run, open for writing: of a training while it trains, or of its files when `publish` sends them.

The files on disk are the truth, and MLflow is a view of them. Only this package imports mlflow, and only inside
functions, because the import takes seconds.
"""

import re
import textwrap
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from tinystories.common.mlflow_limits import MAX_PARAM, MAX_RUN_NAME, MAX_TAG, cut, cut_source
from tinystories.common.urls import redact
from tinystories.tracking.champion import CONTEST_TAG, Entry, register
from tinystories.tracking.mlflow_models import log_models
from tinystories.tracking.mlflow_store import (
    configure_client,
    connect,
    find_experiment,
    relocate_artifacts,
    settle_artifact_mode,
)
from tinystories.tracking.run_choice import EXPERIMENT_TAG, MetricHistory, TrainingRuns
from tinystories.tracking.run_data import Dataset, MetricPoint, RunData

_MAX_SUMMARY = 300  # characters that are shown of MLflow's errors, which may be pages

Status = Literal["FINISHED", "KILLED", "FAILED"]


class MlflowRun:
    """One run in the store, open for writing. Every call waits for MLflow and raises what MLflow raises."""

    def __init__(self, client: Any, runs: TrainingRuns, run: Any, name: str | None) -> None:
        """`name`: of the experiment that trains or publishes, if it has one; the run is renamed to it."""
        self._client, self._runs, self._run = client, runs, run
        self._name = name and cut(name, MAX_RUN_NAME)
        self._history = MetricHistory(client, run.info.run_id)
        self.id: str = run.info.run_id
        self.has_params = bool(run.data.params)
        self.is_finished = run.info.status == "FINISHED"

    def log_params_and_tags(self, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Set name, tags, and the parameters that the run lacks, because MLflow lets none be changed."""
        from mlflow.entities import Param, RunTag

        if self._name and self._name != self._run.info.run_name:
            self._client.update_run(self.id, name=self._name)
        logged, experiment = self._run.data.params, {EXPERIMENT_TAG: self._name} if self._name else {}
        missing = [Param(name, value) for name, value in _cut_params(params).items() if name not in logged]
        all_tags = [RunTag(name, cut(value, MAX_TAG)) for name, value in {**tags, **experiment}.items()]
        self._client.log_batch(self.id, params=missing, tags=all_tags, synchronous=True)

    def start(self) -> None:
        """Set the status RUNNING, also where the run had ended before, and the name: see `TrainingRuns.claim`."""
        self._runs.claim(self._run)

    def monitor_system(self) -> Any:
        """Start to log the use of CPU, memory, disk, network and, with nvidia-ml-py, GPU, every 10 s, from a thread.

        Returns the monitor, whose `finish()` ends it. It ends by itself where MLflow fails.
        """
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        class Monitor(SystemMetricsMonitor):  # type: ignore[misc]
            def monitor(self) -> None:
                with suppress(Exception):  # what this machine does not tell is not worth a traceback
                    super().monitor()

        monitor = Monitor(self.id, resume_logging=True, tracking_uri=self._client.tracking_uri)
        monitor.start()
        return monitor

    def log_metrics(self, points: Iterable[MetricPoint]) -> None:
        """Add the points of steps that the run lacks."""
        from mlflow.entities import Metric

        new = [Metric(*point) for point in self._history.add_new(points)]
        # The client cuts this into calls of at most 1,000, a server's limit.
        self._client.log_batch(self.id, metrics=new, synchronous=True)

    def contradicts(self, points: Iterable[MetricPoint]) -> bool:
        """Whether the run has other results at the steps of these points, so it is of another training."""
        return self._history.contradicts(points)

    def supersede(self) -> "MlflowRun":
        """Create a run of the same name, without points, that takes the place of this one."""
        new = self._runs.create(self._run.data.tags.get(EXPERIMENT_TAG))
        self._runs.supersede([self._client.get_run(self.id)], new)
        return MlflowRun(self._client, self._runs, new, self._name)

    def reconcile(self, points: list[MetricPoint]) -> str:
        """Keep one of the finished runs that hold the same points. Returns its id."""
        return self._runs.reconcile(self.id, points)

    def publish_models(self, run_id: str, data: RunData, name: str) -> tuple[str, str]:
        """Log the models of the run `run_id`, and register the published one as `name`.

        Returns its version, and who won.
        """
        validation, chosen = data.datasets[1], data.published
        ids = log_models(self._client, run_id, data.checkpoints, validation)
        model_id = ids[data.checkpoints.index(chosen)]
        entry = Entry(model_id, run_id, chosen.weights_sha256, validation.sha256, data.bits_per_byte)
        version, contest = register(self._client, name, entry)
        self._client.set_tag(run_id, CONTEST_TAG, f"version {version}: {contest}")
        return version, contest

    def log_inputs(self, datasets: Iterable[Dataset]) -> None:
        """Name the stories as the run's inputs. MLflow keeps one of each name and digest."""
        from mlflow import entities

        inputs = [
            entities.DatasetInput(
                entities.Dataset(
                    name=dataset.name,
                    digest=dataset.digest,
                    source_type="code",  # mlflow.data.get_source expects tags as its source:
                    source=cut_source({"tags": dataset.detail}),
                    profile=dataset.profile,
                ),
                [entities.InputTag("mlflow.data.context", dataset.context)],
            )
            for dataset in datasets
        ]
        self._client.log_inputs(self.id, inputs)

    def log_text(self, path: str, content: str) -> None:
        """Write or replace one artifact."""
        self._client.log_text(self.id, content, path)

    def log_artifacts(self, path: Path, artifact_path: str | None = None) -> None:
        """Copy a file, or all files below a directory, into the directory `artifact_path` of the artifacts."""
        # One by one: MLflow's log_artifacts would write into the old copy, which may be as read-only as its source.
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                inside = file.parent.relative_to(path) if path.is_dir() else Path()
                directory = (Path(artifact_path or "") / inside).as_posix()
                self._client.log_artifact(self.id, str(file), None if directory == "." else directory)
                settle_artifact_mode(self._run, f"{directory}/{file.name}")

    def end(self, status: Status, timestamp: int | None = None) -> None:
        """Set how and when (milliseconds since 1970, or now) the run ended."""
        # A clock that was set back in between would make the run end before it started.
        now = round(time.time() * 1000)
        self._client.set_terminated(self.id, status, max(timestamp or now, self._run.info.start_time))


def open_run_to_log(
    *,
    uri: str,
    experiment: str,
    root: Path,
    key: str,
    params: Mapping[str, str],
    run_id: str | None,
    name: str | None,
) -> MlflowRun | None:
    """Open the run that the training `key` logs to: see `TrainingRuns.run_to_log`. `root`: the user's repository."""
    # MLflow tries a call three times: ten seconds each, so that a dead server is noticed soon.
    client, runs = _training_runs(uri, experiment, root, key, params, name, call_timeout=10)
    run = runs.run_to_log(run_id)
    return MlflowRun(client, runs, relocate_artifacts(client, uri, run), name) if run else None


def open_run_to_publish(
    data: RunData, *, uri: str, experiment: str, root: Path, params: Mapping[str, str], name: str | None
) -> MlflowRun:
    """Open the run that `data` belongs to: see `TrainingRuns.run_to_publish`. `root`: the user's repository."""
    client, runs = _training_runs(uri, experiment, root, data.key, params, name, call_timeout=30)
    return MlflowRun(client, runs, relocate_artifacts(client, uri, runs.run_to_publish(data)), name)


def _training_runs(
    uri: str, experiment: str, root: Path, key: str, params: Mapping[str, str], name: str | None, call_timeout: int
) -> tuple[Any, TrainingRuns]:
    """`call_timeout`: seconds to wait for a server's answer."""
    configure_client(call_timeout)
    client = connect(uri)
    experiment_id = find_experiment(client, experiment, uri, root)
    return client, TrainingRuns(client, experiment_id, key, _cut_params(params), root, name)


def _cut_params(params: Mapping[str, str]) -> dict[str, str]:
    return {name: cut(value, MAX_PARAM) for name, value in params.items()}


def error_summary(error: Exception) -> str:
    """What went wrong, in one line of at most 300 characters, without credentials."""
    # Errors quote pieces of an address too, such as `user:password@host` or `url: /?token=...`.
    said = str(error).partition("[SQL: ")[0]  # a database's query helps no user
    text = re.sub(r"\?\S*|[^\s/]*@", "", redact(said))
    return textwrap.shorten(text, _MAX_SUMMARY, placeholder=" ...") or type(error).__name__
