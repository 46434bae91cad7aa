"""The `publish` stage: bring the MLflow run of a training level with its files."""

import json
from pathlib import Path

from tinystories.common import paths
from tinystories.common.console import info
from tinystories.common.errors import UserError
from tinystories.common.files import write_json
from tinystories.common.mlflow_limits import MAX_TAG
from tinystories.common.params import Params
from tinystories.common.urls import redact, shown_address
from tinystories.publishing.record import read_record
from tinystories.tracking.metrics import environment_tags, flat_params
from tinystories.tracking.mlflow_run import Run, open_run, reason
from tinystories.tracking.mlflow_store import tracking_uri
from tinystories.tracking.record import Record


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
    info(f"MLflow run {run_id} in experiment {params.mlflow.experiment} at {shown}")
    return run_id


def _send_all(run: Run, params: Params, record: Record) -> None:
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
    run.text("params.yaml", redact(paths.PARAMS.read_text(encoding="utf-8")))
    run.files(paths.CHECKPOINT, "checkpoint")
    run.files(paths.SAMPLES, "samples")
    for path in (paths.HISTORY, paths.EPOCHS, paths.TRAIN_METRICS, paths.EVALUATION, paths.PLOT):
        run.files(path)
    run.end("FINISHED", record.ended)


def _description(report: str) -> str:
    """The report, or as many of its lines as a tag can hold."""
    rest = "\n\n(The rest is in the artifact report.md.)\n"
    cut = report[: MAX_TAG - len(rest)].rpartition("\n")[0] + rest
    return cut if len(report) > MAX_TAG else report
