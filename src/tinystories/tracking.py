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

from tinystories import paths
from tinystories.addresses import shown_address, without_credentials
from tinystories.console import say
from tinystories.errors import UserError
from tinystories.files import write_json
from tinystories.mlflow_limits import LONGEST_PARAM, LONGEST_RUN_NAME, LONGEST_TAG, cut, cut_source
from tinystories.mlflow_store import (
    connect,
    find_experiment,
    keep_beside,
    settle_artifact,
    settle_environment,
    tracking_uri,
)
from tinystories.params import Params
from tinystories.record import Dataset, Point, Record, environment_tags, flat_params, read_record

KEY_TAG = "pipeline.key"  # the training's key: one distinct training is one run

_LONGEST_REASON = 300  # characters of MLflow's errors, which may be pages, that are shown

Status = Literal["FINISHED", "KILLED", "FAILED"]


def publish(params: Params, root: Path) -> str:
    """Bring the MLflow run level with the files in the current directory, and write the receipt. Returns the run's id.

    Whatever is there already stays as it is, so publishing again changes nothing. `root`: the user's repository.
    Errors: UserError where a file is missing or MLflow fails; what was sent until then is not sent twice.
    """
    record = read_record()
    uri = tracking_uri(params.mlflow.tracking_uri, root)
    shown = shown_address(uri)
    try:
        run = Run(
            uri=uri,
            experiment=params.mlflow.experiment,
            root=root,
            key=record.key,
            run_id=record.run_id,
            name=record.name,
            call_timeout=30,
            started=record.started,
        )
        _send_all(run, params, record)
    except Exception as error:
        again = "when that is mended, run again: dvc repro --force --single-item publish"
        raise UserError(f"MLflow at {shown}: {reason(error)}; {again}") from None
    write_json(paths.RECEIPT, {"run_id": run.id, "experiment": params.mlflow.experiment, "key": record.key})
    say(f"MLflow run {run.id} in experiment {params.mlflow.experiment} at {shown}")
    return run.id


def _send_all(run: "Run", params: Params, record: Record) -> None:
    run.describe(
        flat_params(params),
        {
            **environment_tags(record.environment),
            "mlflow.note.content": _description(record.report),
            "mlflow.loggedArtifacts": '[{"path": "epochs.json", "type": "table"}]',  # its pages show a table then
        },
    )
    run.log(record.points)
    run.log_final(record.final, record.steps, record.ended)
    run.inputs(record.datasets)
    # Not log_table, which would append the rows again each time.
    run.text("epochs.json", json.dumps(record.table))
    # These two may quote an address with a password in it.
    run.text("report.md", record.report)
    run.text("params.yaml", without_credentials(paths.PARAMS.read_text(encoding="utf-8")))
    run.files(paths.CHECKPOINT, "checkpoint")
    run.files(paths.SAMPLES, "samples")
    for path in (paths.HISTORY, paths.EPOCHS, paths.TRAIN_METRICS, paths.EVALUATION, paths.PLOT):
        run.files(path)
    run.end("FINISHED", record.ended)


def _description(report: str) -> str:
    """The report, or as many of its lines as a tag can hold."""
    rest = "\n\n(The rest is in the artifact report.md.)\n"
    cut = report[: LONGEST_TAG - len(rest)].rpartition("\n")[0] + rest
    return cut if len(report) > LONGEST_TAG else report


class Run:
    """One run in the store, open for writing. Every call waits for MLflow and raises what it raises."""

    def __init__(
        self,
        *,
        uri: str,
        experiment: str,
        root: Path,
        key: str,
        run_id: str | None,
        name: str | None,
        call_timeout: int,
        started: int | None = None,
    ) -> None:
        """Find the run of `run_id` in the experiment, else the newest of `key`, else make one called `name`.

        `call_timeout`: seconds before a server's answer is given up. `started`: milliseconds since 1970, for a new run.
        """
        settle_environment(call_timeout)
        self._client = connect(uri)
        experiment_id = find_experiment(self._client, experiment, uri, root)
        found = _find(self._client, experiment_id, key, run_id)
        self._run = found or self._client.create_run(
            experiment_id,
            start_time=started,
            tags={KEY_TAG: key},
            run_name=cut(name or f"train-{key[:8]}", LONGEST_RUN_NAME),
        )
        self._run = keep_beside(self._client, uri, self._run)
        self._tags = {KEY_TAG: key} | ({"dvc.experiment": name} if name else {})
        self._is_new = found is None
        self._steps: dict[str, set[int]] = {}
        self.id: str = self._run.info.run_id

    def describe(self, params: Mapping[str, object], tags: Mapping[str, str]) -> None:
        """Set the tags, and those parameters that the run has not: MLflow lets none be changed."""
        from mlflow.entities import Param, RunTag

        there = self._run.data.params
        missing = [Param(name, cut(str(value), LONGEST_PARAM)) for name, value in params.items() if name not in there]
        all_tags = [RunTag(name, cut(value, LONGEST_TAG)) for name, value in {**self._tags, **tags}.items()]
        self._client.log_batch(self.id, params=missing, tags=all_tags, synchronous=True)

    def start(self) -> None:
        """Show the run as running, also where it had ended before."""
        self._client.update_run(self.id, status="RUNNING")

    def log(self, points: Iterable[Point]) -> None:
        """Add the points of steps that the run has not: MLflow would show a second one beside the first."""
        new = []
        for point in points:
            steps = self._logged_steps(point.name)
            if point.step not in steps:
                steps.add(point.step)
                new.append(point)
        self._send(new)

    def log_final(self, metrics: Mapping[str, float], step: int, timestamp: int) -> None:
        """Add the evaluation's metrics where the run has none, or others: it can change while the training does not."""
        latest = self._run.data.metrics
        now = round(time.time() * 1000)  # of two points at one step MLflow takes the later as the metric's value
        self._send(
            Point(name, value, now if name in latest else timestamp, step)
            for name, value in metrics.items()
            if latest.get(name) != value
        )

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

    def _logged_steps(self, name: str) -> set[int]:
        if name not in self._steps:
            history = [] if self._is_new else self._client.get_metric_history(self.id, name)
            self._steps[name] = {metric.step for metric in history}
        return self._steps[name]

    def _send(self, points: Iterable[Point]) -> None:
        from mlflow.entities import Metric

        # The client cuts this into calls of at most 1,000, a server's limit.
        self._client.log_batch(self.id, metrics=[Metric(*point) for point in points], synchronous=True)


def _find(client: Any, experiment_id: str, key: str, run_id: str | None) -> Any:
    """The experiment's run of that id, else its newest of that key, else None; deleted ones do not count."""
    from mlflow.exceptions import MlflowException

    if run_id:
        try:
            run = client.get_run(run_id)
            if run.info.lifecycle_stage == "active" and run.info.experiment_id == experiment_id:
                return run
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
    return next(iter(client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)), None)


def reason(error: Exception) -> str:
    """What went wrong, in one line of bearable length, without credentials."""
    # Errors quote pieces of an address too, such as `user:password@host` or `url: /?token=...`.
    said = str(error).partition("[SQL: ")[0]  # what a database was asked helps nobody
    text = re.sub(r"\?\S*|[^\s/]*@", "", without_credentials(said))
    return textwrap.shorten(text, _LONGEST_REASON, placeholder=" ...") or type(error).__name__
