"""The `publish` stage: bring the MLflow run of a training level with its files."""

import json
import re
from pathlib import Path

from tinystories.common import paths
from tinystories.common.console import info
from tinystories.common.errors import UserError
from tinystories.common.files import write_json
from tinystories.common.mlflow_limits import MAX_TAG
from tinystories.common.params import Params
from tinystories.common.urls import redact, shown_address
from tinystories.publishing.run_data import read_run_data
from tinystories.tracking.champion import registered_name
from tinystories.tracking.metrics import environment_tags, flat_params, parent_tags
from tinystories.tracking.mlflow_run import MlflowRun, error_summary, open_run_to_publish
from tinystories.tracking.mlflow_store import tracking_uri
from tinystories.tracking.run_data import RunData


def publish(params: Params, root: Path, name: str | None = None) -> str:
    """Bring the MLflow run level with the files in the current directory, and write the receipt. Returns the run's id.

    What the run has already stays as it is, so publishing again changes nothing. `root`: the user's repository.
    `name`: of the experiment that publishes, if it has one.
    Errors: UserError where a file is missing or MLflow fails; what was sent until then is not sent twice.
    """
    data = read_run_data(params.publish.model)
    uri, experiment = tracking_uri(params.mlflow.tracking_uri, root), params.mlflow.experiment
    shown = shown_address(uri)
    try:
        run = open_run_to_publish(
            data, uri=uri, experiment=experiment, root=root, params=flat_params(params), name=name
        )
        _send_all(run, params, data)
        run_id = run.reconcile(data.points)
        version, contest = run.publish_models(run_id, data, registered_name(experiment))
    except Exception as error:
        again = "when that is mended, run again: dvc repro --force --single-item publish"
        raise UserError(f"MLflow at {shown}: {error_summary(error)}; {again}") from None
    # The same for every store, because publishing elsewhere should not change dvc.lock.
    write_json(paths.RECEIPT, {"experiment": experiment, "key": data.key})
    info(f"MLflow run {run_id} in experiment {experiment} at {shown}")
    info(f"models:/{registered_name(experiment)}/{version}: {contest}")
    return run_id


def _send_all(run: MlflowRun, params: Params, data: RunData) -> None:
    run.log_params_and_tags(
        flat_params(params),
        {
            **environment_tags(data.environment),
            **parent_tags(data.parent),
            "mlflow.note.content": _description(data.report),
            "mlflow.loggedArtifacts": '[{"path": "epochs.json", "type": "table"}]',  # MLflow's pages show a table then
        },
    )
    run.log_metrics(data.points)
    run.log_inputs(data.datasets)
    # Not log_table, which would append the rows again each time.
    run.log_text("epochs.json", json.dumps(data.epoch_table))
    # These two may quote an address with a password in it.
    run.log_text("report.md", data.report)
    run.log_text("params.yaml", redact(paths.PARAMS.read_text(encoding="utf-8")))
    run.log_artifacts(paths.published(params.publish.model), "checkpoint")
    # Here and not by `train`: the card has the final figures, and an edit of its words should train nothing again.
    run.log_text("checkpoint/README.md", paths.MODEL_CARD.read_text(encoding="utf-8"))
    run.log_artifacts(paths.SAMPLES, "samples")
    for path in (
        paths.CORPUS_FIGURES, paths.HISTORY, paths.EPOCHS, paths.TRAIN_METRICS, paths.EVALUATION, paths.STORIES,
        paths.PLOT, paths.REPORT_HTML,
    ):  # fmt: skip
        run.log_artifacts(path)
    run.end("FINISHED", data.ended)


def _description(report: str) -> str:
    """The report, or as many of its lines as a tag can hold. Its title is bold text.

    MLflow's page lays the lines of a heading that does not fit into one over each other.
    """
    report = re.sub(r"\A# (.+)", r"**\1**", report)
    rest = "\n\n(The rest is in the artifact report.md.)\n"
    cut = report[: MAX_TAG - len(rest)].rpartition("\n")[0] + rest
    return cut if len(report) > MAX_TAG else report
