"""Models of MLflow's registry: their files by an address such as models:/NAME@ALIAS.

mlflow is imported inside functions only, because the import takes seconds.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinystories.common.errors import UserError
from tinystories.common.urls import REGISTERED_MODEL, shown_address, store_problem
from tinystories.tracking.mlflow_run import error_summary
from tinystories.tracking.mlflow_store import configure_client, connect, sqlite_path

SCHEME = "models:"
_CALL_TIMEOUT = 10  # seconds to wait for a server's answer


@contextmanager
def model_files(address: str, uri: str) -> Iterator[Path]:
    """Download a registered model; its directory is there as long as the block runs. `uri`: of the MLflow store.

    Errors: UserError where the address has another form, or the registry does not have it or does not answer.
    """
    parts = REGISTERED_MODEL.fullmatch(address)
    if not parts:
        raise UserError(f"{address}: no model's address; it should be models:/NAME@ALIAS or models:/NAME/VERSION")
    shown = shown_address(uri)
    if problem := store_problem(uri):
        raise UserError(f"MLFLOW_TRACKING_URI is {shown!r}; it {problem}")
    with tempfile.TemporaryDirectory() as directory:
        try:
            file = sqlite_path(uri) if uri.startswith("sqlite") else None
            if file and not file.exists():  # MLflow would create it
                raise UserError("no such file; nothing has been recorded there")
            files = _download(uri, parts, directory)
        except Exception as error:
            raise UserError(f"{address} from MLflow at {shown}: {error_summary(error)}") from None
        yield files


@contextmanager
def registered_checkpoint(address: str, uri: str) -> Iterator[Path]:
    """Download a registered model; its checkpoint directory is there as long as the block runs.

    Errors: UserError as in `model_files`, and where there is no checkpoint, or more than one. An error of the block
    names the address instead of a temporary directory.
    """
    with model_files(address, uri) as files:
        found = sorted(path.parent for path in files.rglob("config.json"))
        if len(found) != 1:
            raise UserError(f"{address}: {len(found)} checkpoints among its files; it should have one")
        try:
            yield found[0]
        except UserError as error:
            raise UserError(str(error).replace(str(found[0]), address)) from None


def _download(uri: str, parts: re.Match[str], directory: str) -> Path:
    configure_client(_CALL_TIMEOUT)
    from mlflow.artifacts import download_artifacts

    client = connect(uri)
    version = parts["version"] or client.get_model_version_by_alias(parts["name"], parts["alias"]).version
    location = _location(client, client.get_model_version_download_uri(parts["name"], version))
    return Path(download_artifacts(artifact_uri=location, dst_path=directory, tracking_uri=uri))


def _location(client: Any, source: str) -> str:
    """Where the files are; a version may name a logged model (models:/ID) instead."""
    found = re.fullmatch(r"models:/(m-\w+)", source)
    return str(client.get_logged_model(found[1]).artifact_location) if found else source
