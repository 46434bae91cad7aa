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
from tinystories.run_choice import EXPERIMENT_TAG, Points, TrainingRuns

_LONGEST_REASON = 300  # characters of MLflow's errors, which may be pages, that are shown

Status = Literal["FINISHED", "KILLED", "FAILED"]


def publish(params: Params, root: Path, name: str | None = None) -> str:
    """Bring the MLflow run level with the files in the current directory, and write the receipt. Returns the run's id.

    Whatever is there already stays as it is, so publishing again changes nothing. `root`: the user's repository.
    `name`: of the experiment that is at work, if it has one.
    Errors: UserError where a file is missing or MLflow fails; what was sent until then is not sent twice.
    """
    record = read_record()
    uri = tracking_uri(params.mlflow.tracking_uri, root)
    shown = shown_address(uri)
    try:
        run = open_run(
            record, uri=uri, experiment=params.mlflow.experiment, root=root, params=flat_params(params), name=name
        )
        _send_all(run, params, record)
        run_id = run.reconcile(record.points + record.final)
    except Exception as error:
        again = "when that is mended, run again: dvc repro --force --single-item publish"
        raise UserError(f"MLflow at {shown}: {reason(error)}; {again}") from None
    # What is the same in every store, or publishing elsewhere would change dvc.lock.
    write_json(paths.RECEIPT, {"experiment": params.mlflow.experiment, "key": record.key})
    say(f"MLflow run {run_id} in experiment {params.mlflow.experiment} at {shown}")
    return run_id


def _send_all(run: "Run", params: Params, record: Record) -> None:
    run.describe(
        flat_params(params),
        {
            **environment_tags(record.environment),
            "mlflow.note.content": _description(record.report),
            "mlflow.loggedArtifacts": '[{"path": "epochs.json", "type": "table"}]',  # its pages show a table then
        },
    )
    run.log(record.points + record.final)
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

    def __init__(self, client: Any, runs: TrainingRuns, run: Any, name: str | None) -> None:
        """`name`: of the experiment that is at work, if it has one; the run takes it over."""
        self._client, self._runs, self._run = client, runs, run
        self._name = name and cut(name, LONGEST_RUN_NAME)
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
        all_tags = [RunTag(name, cut(value, LONGEST_TAG)) for name, value in {**tags, **named}.items()]
        self._client.log_batch(self.id, params=missing, tags=all_tags, synchronous=True)

    def start(self) -> None:
        """Show the run as running, also where it had ended before."""
        self._runs.claim(self._run)

    def log(self, points: Iterable[Point]) -> None:
        """Add the points of steps that the run has not."""
        from mlflow.entities import Metric

        new = [Metric(*point) for point in self._points.add(points)]
        # The client cuts this into calls of at most 1,000, a server's limit.
        self._client.log_batch(self.id, metrics=new, synchronous=True)

    def contradicts(self, points: Iterable[Point]) -> bool:
        """Whether the run is of another training: it has other results at the steps of these points."""
        return self._points.contradict(points)

    def supersede(self) -> "Run":
        """A new run that stands in the place of this one, of the same name and without points."""
        new = self._runs.create(self._run.data.tags.get(EXPERIMENT_TAG))
        self._runs.supersede([self._client.get_run(self.id)], new)
        return Run(self._client, self._runs, new, self._name)

    def reconcile(self, points: list[Point]) -> str:
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
    return {name: cut(value, LONGEST_PARAM) for name, value in params.items()}


def reason(error: Exception) -> str:
    """What went wrong, in one line of bearable length, without credentials."""
    # Errors quote pieces of an address too, such as `user:password@host` or `url: /?token=...`.
    said = str(error).partition("[SQL: ")[0]  # what a database was asked helps nobody
    text = re.sub(r"\?\S*|[^\s/]*@", "", without_credentials(said))
    return textwrap.shorten(text, _LONGEST_REASON, placeholder=" ...") or type(error).__name__
