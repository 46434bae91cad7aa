"""What MLflow's pages show of an experiment made here: its kind, and a saved view of its runs.

A browser keeps columns and charts to itself. What it saves for others as a view is a tag of the experiment, which may
be set here too. Its form is that of MLflow 3.17's pages; a later version that cannot read it leaves the view out.
"""

import json
import time

EXPERIMENT_KIND = "mlflow.experimentKind"  # a tag that every experiment made here has
VIEW = "tokens"  # the view's key, in its tag and in an address: see README.md
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"

_COLUMNS = ("final/valid_loss", "final/valid_ppl", "train/loss", "train/tokens")


def experiment_tags() -> dict[str, str]:
    """Tags of a new experiment: it shows trainings, and has the view."""
    # Without its kind MLflow's pages show the evaluation of a language model, not a training.
    return {EXPERIMENT_KIND: "custom_model_development", VIEW_TAG: view_of_tokens()}


def view_of_tokens() -> str:
    """The tag of the view "Loss by tokens"."""
    now = round(time.time() * 1000)
    columns = [f"metrics.`{name}`" for name in _COLUMNS]
    state = {
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": dict.fromkeys(columns, 160),  # pixels: the whole name
        "globalLineChartConfig": {"xAxisKey": "metric", "selectedXAxisMetricKey": "train/tokens", "lineSmoothness": 0},
        "chartsSearchFilter": "loss",
    }
    return json.dumps({"name": "Loss by tokens", "createdAt": now, "updatedAt": now, "state": json.dumps(state)})
