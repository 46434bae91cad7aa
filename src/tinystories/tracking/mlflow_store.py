"""The MLflow store: its address, its database file, the experiment, and where artifacts lie.

mlflow is imported inside functions only, because the import takes seconds.
"""

import logging
import os
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tinystories.common.console import info
from tinystories.common.errors import UserError
from tinystories.common.files import settle_mode
from tinystories.tracking.mlflow_views import EXPERIMENT_KIND, VIEW_TAG, experiment_tags, view_of_tokens

# Where MLflow's databases hold the locations of existing files: tables and columns.
_LOCATION_COLUMNS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_MAX_WAIT = 120.0  # seconds for another process that opens the same database


def tracking_uri(configured: str, root: Path) -> str:
    """The store's address: MLFLOW_TRACKING_URI, else what is configured, else mlflow.db at `root`.

    A relative sqlite path starts at `root` too, because the current directory may be a temporary copy.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured or "sqlite:///mlflow.db"
    relative = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^/:?].*)", uri)
    return f"{relative[1]}{_escaped(root.resolve())}/{relative[2]}" if relative else uri


def configure_client(call_timeout: int) -> None:
    """Before mlflow is imported: few retries, no output of its own. The user's own settings win.

    `call_timeout`: seconds to wait for a server's answer.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(call_timeout))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # one warning for each retry


def connect(uri: str) -> Any:
    """A client of the store, explicit and thread-safe, unlike mlflow's global state.

    A missing sqlite file is created. One that was moved or copied gets the new locations of its artifacts.
    """
    from filelock import FileLock
    from mlflow import MlflowClient
    from sqlalchemy import make_url

    path = sqlite_path(uri)
    if path is None:
        return MlflowClient(uri)
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise UserError(f"{path.parent} is no directory that can be written to")  # MLflow would try for minutes
    url = make_url(uri)
    if url.drivername == "sqlite":
        # For `sqlite:///` alone, MLflow would create directories after the escaped path.
        url = url.set(drivername="sqlite+pysqlite")
    # Several processes that create or migrate the same file at once crash. The lock lies next to it, because they may
    # run in several clones.
    with FileLock(path.with_name(f"{path.name}.lock"), timeout=_MAX_WAIT):
        create_database(path)
        _relocate_experiments(path)
        return MlflowClient(url.render_as_string(hide_password=False))


def create_database(path: Path) -> None:
    """Create the sqlite file, whole or not at all: MLflow cannot use one whose creation was killed halfway."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if path.exists():
        return
    part = path.with_name(f"{path.name}.part")
    for left in (part, part.with_name(f"{part.name}-journal")):
        left.unlink(missing_ok=True)
    # The second argument is for MLflow's own experiment `Default`, which would otherwise use the current directory.
    store = SqlAlchemyStore(f"sqlite+pysqlite:///{_escaped(part)}", _artifacts_uri(path.parent))
    store.engine.dispose()
    part.replace(path)


def find_experiment(client: Any, name: str, uri: str, root: Path) -> str:
    """The id of the experiment `name`, with our view; created where it is missing. Errors: UserError where deleted."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.db_types import DATABASE_ENGINES

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # A server has its own place for artifacts. A bare database would take the current directory, perhaps temporary.
        bare_database = uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES
        file = sqlite_path(uri)
        location = _artifacts_uri(file.parent if file else root) if bare_database else None
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=experiment_tags()))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another process was faster
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"mlflow.experiment is {name!r}, which was deleted there; name another, or restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    if VIEW_TAG not in experiment.tags:  # made by another program, or before there was a view
        with suppress(MlflowException):  # on a server, some may record runs but not change the experiment
            client.set_experiment_tag(experiment.experiment_id, VIEW_TAG, view_of_tokens())
    return str(experiment.experiment_id)


def relocate_artifacts(client: Any, uri: str, run: Any) -> Any:
    """The run with its artifact location next to the database, before anything is written to it.

    When a repository is moved or copied without its artifacts, the old location may belong to somebody else.
    """
    path = sqlite_path(uri)
    if path is None or not (place := re.fullmatch(r"(file:.*/mlartifacts)(/\w+/artifacts)", run.info.artifact_uri)):
        return run
    here = _artifacts_uri(path.parent)
    if place[1] == here:
        return run
    with closing(sqlite3.connect(path, timeout=_MAX_WAIT, isolation_level=None)) as database:
        new = (here + place[2], run.info.run_id)
        database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", new)
    return client.get_run(run.info.run_id)


def settle_artifact_mode(run: Any, name: str) -> None:
    """Give an artifact on this machine's disk the mode of a new file, because MLflow copies that of its source."""
    if run.info.artifact_uri.startswith("file:"):
        settle_mode(_path(run.info.artifact_uri) / name)


def artifacts_are_lost(location: str) -> bool:
    """Whether a place for artifacts is on this machine's disk, and not there: a database may be moved without them."""
    return location.startswith("file:") and not _path(location).exists()


def _relocate_experiments(path: Path) -> None:
    """Set the artifact locations in a database that was moved or copied to where it is now.

    MLflow stores absolute locations when an experiment or a run begins (github.com/mlflow/mlflow/pull/7670), has no
    command to change them for existing runs (its `db move-resources` leaves those as they are), and would go on writing
    to the old location. Only experiments made here change, and not files that exist at the old location alone.
    """
    new_root = _artifacts_uri(path.parent)
    with closing(sqlite3.connect(path, timeout=_MAX_WAIT, isolation_level=None)) as database:
        moved = _moved_experiments(database, new_root)
        if not moved:
            return
        database.execute("BEGIN IMMEDIATE")
        moved = _moved_experiments(database, new_root)
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for old_root in set(moved.values()):
            for table, column in _LOCATION_COLUMNS:
                if table in tables:
                    _relocate_files(database, table, column, old_root, new_root)
        for number, old_root in moved.items():
            database.execute(
                "UPDATE experiments SET artifact_location = ? || substr(artifact_location, ?) WHERE experiment_id = ?",
                (new_root, len(old_root) + 1, number),
            )
        database.execute("COMMIT")
    # In a new database only MLflow's own `Default` (number 0) has a location: nothing to report.
    for old_root in sorted({old_root for number, old_root in moved.items() if number}):
        info(f"MLflow's files go to {_path(new_root)} from now on, no longer to {_path(old_root)}")


def _moved_experiments(database: sqlite3.Connection, new_root: str) -> dict[int, str]:
    """The URI of each experiment's `mlartifacts/`, where it is not `new_root`, by number; only of those made here."""
    rows = database.execute(
        "SELECT experiment_id, artifact_location FROM experiments WHERE experiment_id = 0 OR experiment_id IN "
        "(SELECT experiment_id FROM experiment_tags WHERE key = ?)",
        (EXPERIMENT_KIND,),
    )
    found = {number: re.fullmatch(r"(file:.*/mlartifacts)(/0)?", location or "") for number, location in rows}
    return {number: root[1] for number, root in found.items() if root and root[1] != new_root}


def _relocate_files(database: sqlite3.Connection, table: str, column: str, old_root: str, new_root: str) -> None:
    rows = database.execute(
        f"SELECT DISTINCT {column} FROM {table} WHERE substr({column}, 1, ?) = ?", (len(old_root) + 1, f"{old_root}/")
    )
    for (old,) in rows.fetchall():
        new = new_root + old.removeprefix(old_root)
        if _path(new).exists() or not _path(old).exists():
            database.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))


def sqlite_path(uri: str) -> Path | None:
    """The absolute path of a sqlite database; None for other stores and for one in memory."""
    from sqlalchemy import make_url

    if not uri.startswith("sqlite"):
        return None
    name = make_url(uri).database
    return Path(name).resolve() if name and name != ":memory:" else None


def _artifacts_uri(directory: Path) -> str:
    """The URI of `mlartifacts/`, next to the database file, where all who share the database may write."""
    return (directory.resolve() / "mlartifacts").as_uri()


def _path(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))


def _escaped(path: Path) -> str:
    """The path as part of a database's URL, where SQLAlchemy gives `%` and `?` a meaning."""
    return path.as_posix().replace("%", "%25").replace("?", "%3F")
