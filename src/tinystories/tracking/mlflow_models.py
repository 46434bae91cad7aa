"""The models of a run in MLflow: one LoggedModel for each checkpoint, with its metrics, ready to be served.

mlflow is imported inside functions only, because the import takes seconds.
"""

import shutil
import tempfile
import warnings
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from tinystories.common.files import settle_mode
from tinystories.tracking.mlflow_store import artifacts_are_lost
from tinystories.tracking.run_data import Checkpoint, Dataset

WEIGHTS_TAG = "pipeline.weights_sha256"

_CODE = Path(__file__).with_name("served_model.py")
# What it imports. The package itself is in no registry: the environment that serves has it.
_REQUIREMENTS = ("mlflow", "numpy", "pydantic", "pyyaml", "safetensors", "tokenizers", "torch")


def log_models(client: Any, run_id: str, checkpoints: Iterable[Checkpoint], validation: Dataset) -> list[str]:
    """Log those of the checkpoints that the run lacks, each with its metrics on the validation stories.

    Returns their ids, in order. A model that an earlier call left unfinished is finished.
    """
    from mlflow.entities import LoggedModelStatus

    run = client.get_run(run_id)
    ids = []
    for checkpoint in checkpoints:
        model = _find(client, run, checkpoint)
        if model is None:
            made = client.create_logged_model(
                run.info.experiment_id,
                name=f"epoch_{checkpoint.epoch}",
                source_run_id=run_id,
                params={"epoch": str(checkpoint.epoch), "step": str(checkpoint.step)},
                tags={WEIGHTS_TAG: checkpoint.weights_sha256},
                model_type="stories",
            )
            model = _find(client, run, checkpoint) or made
            if model.model_id != made.model_id:  # another process was faster, and both upload the same files
                client.delete_logged_model(made.model_id)
        if model.status != LoggedModelStatus.READY or artifacts_are_lost(model.artifact_location):
            _upload(client, model.model_id, checkpoint.directory)
            client.finalize_logged_model(model.model_id, "READY")
        _log_metrics(client, run_id, model, checkpoint, validation)
        ids.append(str(model.model_id))
    _link(client, run, {number: checkpoint.step for number, checkpoint in zip(ids, checkpoints, strict=True)})
    return ids


def _find(client: Any, run: Any, checkpoint: Checkpoint) -> Any:
    """The run's oldest model of these weights, or None."""
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    same = [model for model in found if model.tags.get(WEIGHTS_TAG) == checkpoint.weights_sha256]
    return min(same, key=lambda model: (model.creation_timestamp, model.model_id), default=None)


def _upload(client: Any, model_id: str, checkpoint: Path) -> None:
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of type hints of its own
        import mlflow.pyfunc

        place, copy = Path(directory) / "model", Path(directory) / "checkpoint"
        shutil.copytree(checkpoint, copy)  # DVC may have left links to its cache, which MLflow refuses
        mlflow.pyfunc.save_model(
            place,
            python_model=str(_CODE),
            artifacts={"checkpoint": str(copy)},
            signature=_signature(),
            pip_requirements=[f"{name}=={metadata.version(name).partition('+')[0]}" for name in _REQUIREMENTS],
        )
        _remove_paths(place)
        for file in place.rglob("*"):
            if file.is_file():
                settle_mode(file)
        client.log_model_artifacts(model_id, str(place))


def _remove_paths(place: Path) -> None:
    """Leave names in the model's description where MLflow wrote paths of this machine; it loads what lies beside it."""
    from mlflow.models import Model

    description = Model.load(str(place))
    code = description.flavors["python_function"]
    code["model_code_path"] = Path(code["model_code_path"]).name
    for artifact in code["artifacts"].values():
        artifact["uri"] = artifact["path"]
    description.save(str(place / "MLmodel"))


def _log_metrics(client: Any, run_id: str, model: Any, checkpoint: Checkpoint, validation: Dataset) -> None:
    """Add the metrics that the model lacks, linked to the validation stories as `MlflowRun.log_inputs` names them."""
    from mlflow.entities import Metric

    logged = {metric.key for metric in model.metrics or ()}
    new = [
        Metric(
            point.name,
            point.value,
            point.timestamp,
            point.step,
            model_id=model.model_id,
            dataset_name=validation.name,
            dataset_digest=validation.digest,
        )
        for point in checkpoint.points
        if point.name not in logged
    ]
    if new:
        client.log_batch(run_id, metrics=new, synchronous=True)


def _link(client: Any, run: Any, steps: dict[str, int]) -> None:
    """Name the models as the run's outputs."""
    from mlflow.entities import LoggedModelOutput

    linked = {output.model_id for output in (run.outputs.model_outputs if run.outputs else ())}
    new = [LoggedModelOutput(model_id, step) for model_id, step in steps.items() if model_id not in linked]
    if new:
        client.log_outputs(run.info.run_id, new)


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    # Without a value the checkpoint's own generation_config.json decides, and each story has another seed.
    params = [ParamSpec(name, "double", None) for name in ("temperature", "top_p")]
    params += [ParamSpec(name, "long", None) for name in ("top_k", "max_new_tokens", "seed")]
    return ModelSignature(
        Schema([ColSpec("string", "prompt")]), Schema([ColSpec("string", "story")]), ParamSchema(params)
    )
