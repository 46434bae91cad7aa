"""Where the MLflow record is kept: the store's address, a client of it, its experiment."""

import logging
import os
from pathlib import Path
from typing import Any

from tinystories.errors import UserError


def tracking_uri(configured: str, root: Path) -> str:
    """Where the record goes: MLFLOW_TRACKING_URI, else what is configured, else mlflow.db at `root`.

    A relative sqlite file is taken from `root` too: the current directory may be a throw-away copy.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured or "sqlite:///mlflow.db"
    prefix, file = uri[: len("sqlite:///")], uri[len("sqlite:///") :]
    if prefix != "sqlite:///" or file in ("", ":memory:"):
        return uri
    return prefix + (root.resolve() / file).as_posix()


def settle_environment(call_timeout: int) -> None:
    """Before mlflow is imported: few tries, and no words of its own on the terminal. The user's own settings win."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(call_timeout))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # one warning for each retry


def connect(uri: str, root: Path) -> Any:
    """A client of the store: explicit and thread-safe, unlike mlflow's global state."""
    from filelock import FileLock
    from mlflow import MlflowClient

    if not uri.startswith("sqlite"):
        return MlflowClient(uri)
    # Several processes that create or migrate the same file at once crash.
    lock = root / ".state" / "mlflow.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock, timeout=120):
        _create_database(uri, root)
        return MlflowClient(uri)


def _create_database(uri: str, root: Path) -> None:
    """Make the sqlite file, whole or not at all: MLflow cannot use one whose creation was killed halfway."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import make_url

    path = Path(make_url(uri).database or ":memory:")
    if path.name == ":memory:" or path.exists():
        return
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise UserError(f"{path.parent} is no directory that can be written to")  # MLflow would try for minutes
    part = path.with_name(f"{path.name}.part")
    for left in (part, part.with_name(f"{part.name}-journal")):
        left.unlink(missing_ok=True)
    before, _, after = uri.rpartition(path.name)
    # The second argument is for MLflow's own experiment `Default`, which would else use the current directory.
    store = SqlAlchemyStore(f"{before}{part.name}{after}", (root.resolve() / "mlartifacts").as_uri())
    store.engine.dispose()
    part.replace(path)


def experiment_id(client: Any, name: str, uri: str, root: Path) -> str:
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.db_types import DATABASE_ENGINES

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # A server knows a place for artifacts. A bare database would take the current directory, perhaps a throw-away.
        bare_database = uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES
        location = (root.resolve() / "mlartifacts").as_uri() if bare_database else None
        try:
            # Else MLflow's pages take it for the evaluation of a language model, not for a training.
            tags = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(name, artifact_location=location, tags=tags))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another process was faster
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"mlflow.experiment is {name!r}, which was deleted there; name another, or restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return str(experiment.experiment_id)
