"""Which MLflow run is whose: one run is one training, whole, under the parameters that made its figures.

So a run is known by the training's key and its parameters: an experiment that only evaluates otherwise has a run of its
own, with the points of the training that it shares. Where two trainings of one key end with other bits (on another
processor, with other libraries), each has its own run, and the later one supersedes the earlier.
"""

import getpass
import hashlib
import math
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tinystories.common.mlflow_limits import MAX_RUN_NAME, cut
from tinystories.tracking.record import MetricPoint, Record

KEY_TAG = "pipeline.key"  # the training's key
WRITER_TAG = "pipeline.writer"  # who writes to the run as long as it is running: see `writer`
EXPERIMENT_TAG = "dvc.experiment"  # the experiment's name, as DVC has it
SUPERSEDES_TAG, SUPERSEDED_TAG = "pipeline.supersedes", "pipeline.superseded_by"  # ids of runs
TRAINING_TAG = "pipeline.training_run"  # id of the run, of other parameters, whose training this one shares

_NO_RESULT = {"train/tokens_per_second"}  # it differs between two trainings of the same bits


def writer(root: Path) -> str:
    """A name for this repository on this machine, from which neither can be read."""
    return hashlib.sha256(f"{socket.gethostname()} {root.resolve() / '.state'}".encode()).hexdigest()[:16]


def same_params(there: Mapping[str, str], params: Mapping[str, str]) -> bool:
    """Whether a run's parameters say nothing else than these. 30 and 30.0 are the same, and so are False and false.

    A run that was killed before it had any says nothing else either.
    """
    return all(_same_value(there[name], value) for name, value in params.items() if name in there)


def _same_value(one: str, other: str) -> bool:
    if one == other or {one.lower(), other.lower()} in ({"true"}, {"false"}):
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


class Points:
    """The points of one run: each metric's history is read when it is asked for, and kept."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._values: dict[str, dict[int, list[float]]] = {}

    def contradict(self, points: Iterable[MetricPoint]) -> bool:
        """Whether the run has another result, or two, where one of these is: it is of another training then."""
        return any(
            len(values) > 1 or not math.isclose(values[0], point.value, rel_tol=1e-9)  # a store may round
            for point in points
            if point.name not in _NO_RESULT and (values := self._at(point))
        )

    def hold(self, points: Iterable[MetricPoint]) -> bool:
        """Whether the run has all of these, and no other results in their places."""
        points = list(points)
        return all(self._at(point) for point in points) and not self.contradict(points)

    def add(self, points: Iterable[MetricPoint]) -> list[MetricPoint]:
        """Take in the points of steps that the run has not, and return them: those that are to be sent.

        Of two at one step MLflow would show one beside the other.
        """
        new = []
        for point in points:
            if not (values := self._at(point)):
                values.append(point.value)
                new.append(point)
        return new

    def _at(self, point: MetricPoint) -> list[float]:
        if point.name not in self._values:
            values = self._values[point.name] = {}
            for metric in self._client.get_metric_history(self._run_id, point.name):
                values.setdefault(metric.step, []).append(metric.value)
        return self._values[point.name].setdefault(point.step, [])


class TrainingRuns:
    """The runs of one training in one experiment of a store; `ours` are those of the parameters at work."""

    def __init__(
        self, client: Any, experiment_id: str, key: str, params: Mapping[str, str], root: Path, name: str | None
    ) -> None:
        """`root`: the user's repository. `name`: of the experiment that is at work, if it has one."""
        self._client, self._experiment_id, self._key = client, experiment_id, key
        self._params, self._writer, self._name = params, writer(root), name

    def to_stream(self, run_id: str | None) -> Any:
        """The run that a training streams to: that of `run_id`, else one of its key, else a new one.

        None where the same training streams from another repository at this moment. A run that is finished is not for
        streaming: `publish` compares what this training gives. Whoever asks holds the key's lock, so a run of this
        repository that still says it is running was killed.
        """
        known = self._known(run_id)
        if known and self._is_ours(known) and SUPERSEDED_TAG not in known.data.tags:
            return known
        runs = self._standing()
        if not runs:
            mine = self.create(self._name)
            runs = [run for run in self._standing() if _age(run) < _age(mine)]
            if not runs:
                if known and not self._is_ours(known) and known.info.status != "FINISHED":
                    self.supersede([known], mine)  # it was stopped, and goes on under other parameters
                return mine
            self._client.delete_run(mine.info.run_id)  # of two that were made at the same moment the older one stands
        return None if any(self._is_written_elsewhere(run) for run in runs) else runs[-1]

    def of_record(self, record: Record) -> Any:
        """The run of the record: that of its id, else one of its key and parameters, if the results in it are the same.

        Else a new one, which supersedes those with other results.
        """
        known, all_runs = self._known(record.run_id), self._all()
        ours = [run for run in all_runs if self._is_ours(run) and not self._is_written_elsewhere(run)]
        if known and self._is_ours(known):
            ours = [known, *(run for run in ours if run.info.run_id != known.info.run_id)]
        for run in ours:
            if not self._points(run).contradict(record.points + record.final):
                return run
        others = [run for run in all_runs if not self._is_ours(run)]
        taken = record.name in [run.info.run_name for run in others]  # by the experiment that trained
        new = self.create(self._name or (None if taken else record.name), record.started)
        if known and not self._is_ours(known) and known.info.status != "FINISHED":
            ours.append(known)
        self.supersede(ours, new)
        for run in others:
            if run not in ours and not self._points(run).contradict(record.points):
                self._client.set_tag(new.info.run_id, TRAINING_TAG, run.info.run_id)
                break
        return new

    def create(self, name: str | None, started: int | None = None) -> Any:
        """A new run. `started`: milliseconds since 1970; without it, now."""
        tags = {
            KEY_TAG: self._key,
            WRITER_TAG: self._writer,
            # What MLflow's own clients say of themselves; its pages have columns for it.
            "mlflow.user": _user(),
            "mlflow.source.name": "stages/train.py",
            "mlflow.source.type": "LOCAL",
            **({EXPERIMENT_TAG: name} if name else {}),
        }
        return self._client.create_run(
            self._experiment_id,
            start_time=started,
            tags=tags,
            run_name=cut(name or f"train-{self._key[:8]}", MAX_RUN_NAME),
        )

    def claim(self, run: Any) -> None:
        """Show the run as running, also where it had ended before, and as ours."""
        self._client.set_tag(run.info.run_id, WRITER_TAG, self._writer)
        self._client.update_run(run.info.run_id, status="RUNNING")

    def supersede(self, runs: list[Any], new: Any) -> None:
        """Say of each of the runs, and of the new one, that it stands in their place."""
        for run in runs:
            self._client.set_tag(run.info.run_id, SUPERSEDED_TAG, new.info.run_id)
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
        if runs:
            self._client.set_tag(new.info.run_id, SUPERSEDES_TAG, ",".join(run.info.run_id for run in runs))

    def reconcile(self, run_id: str, points: list[MetricPoint]) -> str:
        """Where two repositories have made finished runs of the same points, delete all but the oldest.

        Returns its id, which is `run_id` where there is no other.
        """
        finished = [run for run in self._all() if self._is_ours(run) and run.info.status == "FINISHED"]
        if len(finished) < 2:
            return run_id
        equal = [run for run in finished if self._points(run).hold(points)]
        for run in equal[1:]:
            self._client.delete_run(run.info.run_id)  # as by hand: `mlflow runs restore` brings it back
        return str(equal[0].info.run_id) if equal else run_id

    def _points(self, run: Any) -> Points:
        return Points(self._client, run.info.run_id)

    def _known(self, run_id: str | None) -> Any:
        """The experiment's run of that id, else None; a deleted one does not count."""
        if not run_id:
            return None
        try:
            run = self._client.get_run(run_id)
        except Exception as error:
            if getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        here = run.info.lifecycle_stage == "active" and run.info.experiment_id == self._experiment_id
        return run if here else None

    def _all(self) -> list[Any]:
        """The experiment's runs of the key, the oldest first; deleted ones do not count."""
        return sorted(self._client.search_runs([self._experiment_id], f"tags.`{KEY_TAG}` = '{self._key}'"), key=_age)

    def _standing(self) -> list[Any]:
        """Those of our parameters in whose place no other stands."""
        return [run for run in self._all() if self._is_ours(run) and SUPERSEDED_TAG not in run.data.tags]

    def _is_ours(self, run: Any) -> bool:
        return same_params(run.data.params, self._params)

    def _is_written_elsewhere(self, run: Any) -> bool:
        is_written: bool = run.info.status == "RUNNING"
        return is_written and run.data.tags.get(WRITER_TAG, self._writer) != self._writer


def _age(run: Any) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return "unknown"  # a user id without a name, as in a container; MLflow's own word
