"""The view of the runs that an experiment has. Needs MLflow's pages, and reads what they know."""

import json
from pathlib import Path

import mlflow.server
import pytest

from tests.support.mlflow_runs import client_of
from tests.support.repository import ROOT
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking.mlflow_views import VIEW, VIEW_TAG


@pytest.fixture
def view(root, files):
    """As the experiment has it, and a run of it."""
    run = client_of(root).get_run(publish(load_params(), root))
    tags = client_of(root).get_experiment(run.info.experiment_id).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    return json.loads(tags[VIEW_TAG]), run


def test_experiment_has_a_view_of_loss_by_tokens(view):
    saved, run = view
    assert saved["name"] == "Loss by tokens"
    state = json.loads(saved["state"])
    names = [column.removeprefix("metrics.`").removesuffix("`") for column in state["selectedColumns"]]
    assert names[0] == "final/valid_loss"
    axis = state["globalLineChartConfig"]["selectedXAxisMetricKey"]
    assert {*names, axis} <= set(run.data.metrics)
    # The README links to it, and names it.
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"/runs?workflowType=machine_learning&viewStateShareKey={VIEW}" in readme and saved["name"] in readme


def test_experiment_of_before_gets_the_view_once(root, files):
    client = client_of(root)
    number = client.create_experiment("tinystories", tags={"owner": "somebody"})
    views = []
    for _ in range(2):
        publish(load_params(), root)
        tags = client.get_experiment(number).tags
        assert tags.keys() == {"owner", VIEW_TAG}  # not the kind: the experiment may be about something else
        views.append(tags[VIEW_TAG])
    assert views[0] == views[1]  # with the time when it was made


def test_mlflow_pages_know_the_views_form(view):
    """MLflow documents it nowhere."""
    saved, _ = view
    state = json.loads(saved["state"])
    words = {
        "mlflow.sharedViewState.", "viewStateShareKey", "workflowType", "machine_learning", "custom_model_development",
        *saved, *state, *state["globalLineChartConfig"],
    }  # fmt: skip
    scripts = (Path(mlflow.server.__file__).parent / "js/build/static/js").glob("*.js")
    code = "".join(path.read_text(encoding="utf-8", errors="replace") for path in scripts)
    assert [word for word in sorted(words) if word not in code] == []
