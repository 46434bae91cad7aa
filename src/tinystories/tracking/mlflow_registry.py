"""Models of MLflow's registry, and its logged ones: their files by an address such as models:/NAME@ALIAS.

mlflow is imported inside functions only, because the import takes seconds.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.params_file import load_params
from tinystories.common.urls import REGISTERED_MODEL
from tinystories.tracking.mlflow_store import tracking_uri
from tinystories.tracking.read_store import read_store

SCHEME = "models:"


@contextmanager
def checkpoint_directory(source: str, configured: str | None = None) -> Iterator[Path]:
    """Give the checkpoint directory that `source` names; what is downloaded goes after the block.

    `source`: a path, or an address models:/... `configured`: mlflow.tracking_uri, by default what params.yaml at the
    repository's root says. Errors: UserError as in `registered_checkpoint`.
    """
    if not source.startswith(SCHEME):
        yield Path(source)
        return
    root = paths.repository_root()
    parameters = root / paths.PARAMS
    if configured is None:
        configured = load_params(parameters).mlflow.tracking_uri if parameters.exists() else ""
    with registered_checkpoint(source, tracking_uri(configured, root)) as directory:
        yield directory


@contextmanager
def model_files(address: str, uri: str) -> Iterator[Path]:
    """Download a registered model; its directory is there as long as the block runs. `uri`: of the MLflow store.

    Errors: UserError where the address has another form, or the registry does not have it or does not answer.
    """
    parts = REGISTERED_MODEL.fullmatch(address)
    if not parts:
        known = "models:/NAME@ALIAS or models:/NAME/VERSION, or models:/ID of a logged model"
        raise UserError(f"{address}: no model's address; it should be {known}")
    with tempfile.TemporaryDirectory() as directory:
        with read_store(uri, f"{address} from ") as client:
            files = _download(client, uri, parts, directory)
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


def _download(client: Any, uri: str, parts: re.Match[str], directory: str) -> Path:
    from mlflow.artifacts import download_artifacts

    if parts["id"]:
        location = str(client.get_logged_model(parts["id"]).artifact_location)
        return Path(download_artifacts(artifact_uri=location, dst_path=directory, tracking_uri=uri))
    version = parts["version"] or client.get_model_version_by_alias(parts["name"], parts["alias"]).version
    location = _location(client, client.get_model_version_download_uri(parts["name"], version))
    return Path(download_artifacts(artifact_uri=location, dst_path=directory, tracking_uri=uri))


def _location(client: Any, source: str) -> str:
    """Where the files are; a version may name a logged model (models:/ID) instead."""
    found = re.fullmatch(r"models:/(m-\w+)", source)
    return str(client.get_logged_model(found[1]).artifact_location) if found else source
