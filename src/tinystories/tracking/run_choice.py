"""Choose the MLflow run of a training: one run is one whole training under the parameters that made its figures.

A run is identified by the training's key and its parameters. An experiment that only evaluates otherwise has its own
run, with the points of the training that it shares. Where two trainings of one key end with other bits (on another
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
from tinystories.tracking.run_data import MetricPoint, RunData

KEY_TAG = "pipeline.key"  # the training's key
WRITER_TAG = "pipeline.writer"  # who writes to the run while it is running: see `writer_id`
EXPERIMENT_TAG = "dvc.experiment"  # the experiment's name, as DVC has it
SUPERSEDES_TAG, SUPERSEDED_TAG = "pipeline.supersedes", "pipeline.superseded_by"  # ids of runs
TRAINING_TAG = "pipeline.training_run"  # id of the run, under other parameters, whose training this one shares

_NOT_RESULTS = {"train/tokens_per_second"}  # these differ between two trainings of the same bits


def writer_id(root: Path) -> str:
    """A hash of this machine and repository, which reveals neither."""
    return hashlib.sha256(f"{socket.gethostname()} {root.resolve() / '.state'}".encode()).hexdigest()[:16]


def same_params(logged: Mapping[str, str], params: Mapping[str, str]) -> bool:
    """Whether all parameters that both have are equal. 30 equals 30.0, and False equals false.

    A run that was killed before it had parameters equals any.
    """
    return all(_same_value(logged[name], value) for name, value in params.items() if name in logged)


def _same_value(one: str, other: str) -> bool:
    if one == other or {one.lower(), other.lower()} in ({"true"}, {"false"}):
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


class MetricHistory:
    """The points of one run. Each metric is fetched at its first use, and kept."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._values: dict[str, dict[int, list[float]]] = {}

    def contradicts(self, points: Iterable[MetricPoint]) -> bool:
        """Whether the run has another result, or two, where one of these is, so it is of another training."""
        return any(
            len(values) > 1 or not math.isclose(values[0], point.value, rel_tol=1e-9)  # a store may round
            for point in points
            if point.name not in _NOT_RESULTS and (values := self._values_at(point))
        )

    def has_all(self, points: Iterable[MetricPoint]) -> bool:
        """Whether the run has all of these, and no other results at their steps."""
        points = list(points)
        return all(self._values_at(point) for point in points) and not self.contradicts(points)

    def add_new(self, points: Iterable[MetricPoint]) -> list[MetricPoint]:
        """Add the points of steps that the run lacks, and return them: they have to be sent.

        MLflow would show two points at one step as two.
        """
        new = []
        for point in points:
            if not (values := self._values_at(point)):
                values.append(point.value)
                new.append(point)
        return new

    def _values_at(self, point: MetricPoint) -> list[float]:
        if point.name not in self._values:
            values = self._values[point.name] = {}
            for metric in self._client.get_metric_history(self._run_id, point.name):
                values.setdefault(metric.step, []).append(metric.value)
        return self._values[point.name].setdefault(point.step, [])


class TrainingRuns:
    """The runs of one training in one experiment of a store. `ours`: those with the current parameters."""

    def __init__(
        self, client: Any, experiment_id: str, key: str, params: Mapping[str, str], root: Path, name: str | None
    ) -> None:
        """`root`: the user's repository. `name`: of the experiment that trains or publishes, if it has one."""
        self._client, self._experiment_id, self._key = client, experiment_id, key
        self._params, self._writer, self._name = params, writer_id(root), name

    def run_to_log(self, run_id: str | None) -> Any:
        """The run that a training logs to: that of `run_id`, else one of its key, else a new one.

        None where another repository logs the same training now. A finished run gets nothing logged: `publish` compares
        it with this training. The caller holds the key's lock, so a run of this repository that is still RUNNING was
        killed.
        """
        known = self._find(run_id)
        if known and self._is_ours(known) and SUPERSEDED_TAG not in known.data.tags:
            return known
        runs = self._current()
        if not runs:
            mine = self.create(self._name)
            runs = [run for run in self._current() if _age(run) < _age(mine)]
            if not runs:
                if known and not self._is_ours(known) and known.info.status != "FINISHED":
                    self.supersede([known], mine)  # it was stopped, and is resumed under other parameters
                return mine
            self._client.delete_run(mine.info.run_id)  # of two that were made at the same moment, the older one stays
        return None if any(self._is_written_elsewhere(run) for run in runs) else runs[-1]

    def run_to_publish(self, data: RunData) -> Any:
        """The run of `data.run_id`, else one of its key and parameters, if the run has no other results.

        Else a new one, which supersedes those with other results.
        """
        known, all_runs = self._find(data.run_id), self._all()
        ours = [run for run in all_runs if self._is_ours(run) and not self._is_written_elsewhere(run)]
        if known and self._is_ours(known):
            ours = [known, *(run for run in ours if run.info.run_id != known.info.run_id)]
        for run in ours:
            if not self._history(run).contradicts(data.points):
                return run
        others = [run for run in all_runs if not self._is_ours(run)]
        taken = data.name in [run.info.run_name for run in others]  # by the experiment that trained
        new = self.create(self._name or (None if taken else data.name), data.started)
        if known and not self._is_ours(known) and known.info.status != "FINISHED":
            ours.append(known)
        self.supersede(ours, new)
        for run in others:
            if run not in ours and not self._history(run).contradicts(data.training_points):
                self._client.set_tag(new.info.run_id, TRAINING_TAG, run.info.run_id)
                break
        return new

    def create(self, name: str | None, started: int | None = None) -> Any:
        """Create a run. `started`: milliseconds since 1970; default: now."""
        tags = {
            KEY_TAG: self._key,
            WRITER_TAG: self._writer,
            # As MLflow's own clients set them; its pages have columns for them.
            "mlflow.user": _user(),
            "mlflow.source.name": "stages/train.py",
            "mlflow.source.type": "LOCAL",
            **({EXPERIMENT_TAG: name} if name else {}),
        }
        return self._client.create_run(
            self._experiment_id,
            start_time=started,
            tags=tags,
            run_name=self._run_name(name),
        )

    def claim(self, run: Any) -> None:
        """Set the run's status to RUNNING, also where it had ended before, its writer to this repository, and its name.

        A training that was stopped may be resumed by another experiment, or by none: DVC does not know the first then.
        """
        self._client.set_tag(run.info.run_id, WRITER_TAG, self._writer)
        if self._name:
            self._client.set_tag(run.info.run_id, EXPERIMENT_TAG, self._name)
        elif EXPERIMENT_TAG in run.data.tags:
            self._client.delete_tag(run.info.run_id, EXPERIMENT_TAG)
        self._client.update_run(run.info.run_id, status="RUNNING", name=self._run_name(self._name))

    def supersede(self, runs: list[Any], new: Any) -> None:
        """Tag each of the runs, and the new one, to say that it takes their place."""
        for run in runs:
            self._client.set_tag(run.info.run_id, SUPERSEDED_TAG, new.info.run_id)
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
        if runs:
            self._client.set_tag(new.info.run_id, SUPERSEDES_TAG, ",".join(run.info.run_id for run in runs))

    def reconcile(self, run_id: str, points: list[MetricPoint]) -> str:
        """Delete all finished runs of the same points but the oldest, as two repositories can make them.

        Returns its id, which is `run_id` where there is no other.
        """
        finished = [run for run in self._all() if self._is_ours(run) and run.info.status == "FINISHED"]
        if len(finished) < 2:
            return run_id
        equal = [run for run in finished if self._history(run).has_all(points)]
        for run in equal[1:]:
            self._client.delete_run(run.info.run_id)  # `mlflow runs restore` brings it back
        return str(equal[0].info.run_id) if equal else run_id

    def _run_name(self, name: str | None) -> str:
        return cut(name or f"train-{self._key[:8]}", MAX_RUN_NAME)

    def _history(self, run: Any) -> MetricHistory:
        return MetricHistory(self._client, run.info.run_id)

    def _find(self, run_id: str | None) -> Any:
        """The experiment's run of that id, else None. A deleted run does not count."""
        if not run_id:
            return None
        try:
            run = self._client.get_run(run_id)
        except Exception as error:
            if getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        is_active = run.info.lifecycle_stage == "active" and run.info.experiment_id == self._experiment_id
        return run if is_active else None

    def _all(self) -> list[Any]:
        """The experiment's runs of the key, the oldest first. Deleted runs do not count."""
        return sorted(self._client.search_runs([self._experiment_id], f"tags.`{KEY_TAG}` = '{self._key}'"), key=_age)

    def _current(self) -> list[Any]:
        """The runs with our parameters that no other supersedes, the oldest first."""
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
        return "unknown"  # a user id without a name, as in a container; MLflow uses this word
