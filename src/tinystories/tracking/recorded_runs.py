"""Read runs from MLflow's record: the newest, or those that are named. Nothing is written there.

mlflow is imported inside functions only, because the import takes seconds.
"""

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

from tinystories.common.errors import UserError, shorten
from tinystories.common.recorded_run import RecordedRun, Score
from tinystories.common.urls import shown_address
from tinystories.tracking.read_store import read_store
from tinystories.tracking.run_choice import EXPERIMENT_TAG, KEY_TAG, SUPERSEDED_TAG

_ENVIRONMENT = "environment."


def read_runs(uri: str, experiment: str, names: Sequence[str], last: int) -> tuple[list[RecordedRun], int]:
    """The runs of these names, else the `last` newest; and how many more there are.

    A name is a run's or a DVC experiment's name, or begins its id or its key. `uri`: of the MLflow store.
    Errors: UserError where a name means no run or several, or the record cannot be read.
    """
    with read_store(uri) as client:
        found = client.get_experiment_by_name(experiment)
        runs = _all_runs(client, found.experiment_id) if found else []
    if not runs:
        raise UserError(
            f"MLflow at {shown_address(uri)} has no run of the experiment {experiment}; dvc exp run makes one"
        )
    chosen = _named(runs, names) if names else [run for run in runs if SUPERSEDED_TAG not in run.data.tags]
    taken = chosen if names else chosen[:last]
    with read_store(uri) as client:
        return [_recorded(client, run) for run in taken], len(chosen) - len(taken)


def _all_runs(client: Any, experiment_id: str) -> list[Any]:
    """All active runs, the newest first."""
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], order_by=["attributes.start_time DESC"], page_token=token)
        runs += page
        if not (token := page.token):
            return runs


def _named(runs: list[Any], names: Sequence[str]) -> list[Any]:
    found: dict[str, Any] = {}
    for name in names:
        found |= {run.info.run_id: run for run in _meant(runs, name)}
    return list(found.values())


def _meant(runs: list[Any], name: str) -> list[Any]:
    """The runs that a name means; of equal names those that no later one supersedes, if there are such."""
    meant = [run for run in runs if name in _names(run)]
    if not meant and re.fullmatch("[0-9a-f]{4,}", name):
        meant = [run for run in runs if any(key.startswith(name) for key in _keys(run))]
        if len({run.data.tags.get(KEY_TAG) for run in meant}) > 1:
            several = shorten(", ".join(f"{run.info.run_name} ({run.info.run_id[:12]})" for run in meant))
            raise UserError(f"{name} begins the ids or keys of several trainings: {several}")
    if not meant:
        known = dict.fromkeys(known for run in runs for known in _names(run))
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        hint = f"near: {', '.join(near)}" if near else f"there are: {shorten(', '.join(known))}"
        raise UserError(f"{shorten(name)} is no run's name, id or key; {hint}")
    return [run for run in meant if SUPERSEDED_TAG not in run.data.tags] or meant


def _names(run: Any) -> list[str]:
    return list(filter(None, (run.info.run_name, run.data.tags.get(EXPERIMENT_TAG))))


def _keys(run: Any) -> list[str]:
    return list(filter(None, (run.info.run_id, run.data.tags.get(KEY_TAG))))


def _recorded(client: Any, run: Any) -> RecordedRun:
    """All that is compared of a run: its four histories are four calls."""

    def history(name: str) -> dict[int, float]:
        points = client.get_metric_history(run.info.run_id, name) if name in run.data.metrics else []
        return {point.step: point.value for point in sorted(points, key=_by_time) if math.isfinite(point.value)}

    tokens, losses = history("train/tokens"), history("train/loss")
    tokens_per_step = next((count / step for step, count in tokens.items() if step), 1.0)
    bits = history("epoch/valid_bits_per_byte")
    scores = {
        step: Score(step * tokens_per_step, loss, bits[step])
        for step, loss in sorted(history("epoch/valid_loss").items())
        if step in bits
    }
    final = [run.data.metrics.get(f"final/{name}", math.nan) for name in ("valid_loss", "valid_bits_per_byte")]
    if scores and all(map(math.isfinite, final)):
        last = max(scores)
        scores[last] = Score(scores[last].tokens, *final)
    return RecordedRun(
        id=run.info.run_id,
        name=run.info.run_name or run.info.run_id[:8],
        status=run.info.status,
        started=run.info.start_time,
        params=dict(run.data.params),
        environment={
            name.removeprefix(_ENVIRONMENT): value
            for name, value in run.data.tags.items()
            if name.startswith(_ENVIRONMENT)
        },
        validation=_validation_digest(run),
        losses=sorted((tokens[step], loss) for step, loss in losses.items() if step in tokens),
        scores=list(scores.values()),
    )


def _by_time(point: Any) -> tuple[int, int]:
    return point.step, point.timestamp


def _validation_digest(run: Any) -> str | None:
    inputs = run.inputs.dataset_inputs if run.inputs else []
    found = [each.dataset.digest for each in inputs if any(tag.value == "validation" for tag in each.tags)]
    return found[-1] if found else None
