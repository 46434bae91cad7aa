"""Where the MLflow record is kept: the address of the store, its database file, the experiment and its artifacts.

`tracking` writes what stands in it. mlflow is imported inside functions only, for that takes seconds.
"""

import logging
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tinystories.common.console import info
from tinystories.common.errors import UserError
from tinystories.common.files import settle_mode

_EXPERIMENT_KIND = "mlflow.experimentKind"  # a tag that every experiment made here has
# Where MLflow's databases hold the place of files that are there already: tables and columns.
_PLACES_OF_FILES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_LONGEST_WAIT = 120.0  # seconds for another process that opens the same database


def tracking_uri(configured: str, root: Path) -> str:
    """Where the record goes: MLFLOW_TRACKING_URI, else what is configured, else mlflow.db at `root`.

    A relative sqlite file is taken from `root` too: the current directory may be a throw-away copy.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured or "sqlite:///mlflow.db"
    relative = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^/:?].*)", uri)
    return f"{relative[1]}{_escaped(root.resolve())}/{relative[2]}" if relative else uri


def settle_environment(call_timeout: int) -> None:
    """Before mlflow is imported: few tries, and no words of its own on the terminal. The user's own settings win."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(call_timeout))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # one warning for each retry


def connect(uri: str) -> Any:
    """A client of the store: explicit and thread-safe, unlike mlflow's global state.

    A sqlite file is made where there is none; one that was moved or copied names its files where they are now.
    """
    from filelock import FileLock
    from mlflow import MlflowClient
    from sqlalchemy import make_url

    path = _database_file(uri)
    if path is None:
        return MlflowClient(uri)
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise UserError(f"{path.parent} is no directory that can be written to")  # MLflow would try for minutes
    url = make_url(uri)
    if url.drivername == "sqlite":
        # For `sqlite:///` alone MLflow makes the directories that it takes an escaped path for.
        url = url.set(drivername="sqlite+pysqlite")
    # Several processes that create or migrate the same file at once crash. The lock lies beside it, for they may be of
    # several clones.
    with FileLock(path.with_name(f"{path.name}.lock"), timeout=_LONGEST_WAIT):
        create_database(path)
        _follow(path)
        return MlflowClient(url.render_as_string(hide_password=False))


def create_database(path: Path) -> None:
    """Make the sqlite file, whole or not at all: MLflow cannot use one whose creation was killed halfway."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if path.exists():
        return
    part = path.with_name(f"{path.name}.part")
    for left in (part, part.with_name(f"{part.name}-journal")):
        left.unlink(missing_ok=True)
    # The second argument is for MLflow's own experiment `Default`, which would else use the current directory.
    store = SqlAlchemyStore(f"sqlite+pysqlite:///{_escaped(part)}", _artifacts_in(path.parent))
    store.engine.dispose()
    part.replace(path)


def find_experiment(client: Any, name: str, uri: str, root: Path) -> str:
    """The id of the experiment `name`, which is made where there is none. Errors: UserError where it was deleted."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.db_types import DATABASE_ENGINES

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # A server knows a place for artifacts. A bare database would take the current directory, perhaps a throw-away.
        bare_database = uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES
        file = _database_file(uri)
        location = _artifacts_in(file.parent if file else root) if bare_database else None
        try:
            # Else MLflow's pages take it for the evaluation of a language model, not for a training.
            tags = {_EXPERIMENT_KIND: "custom_model_development"}
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


def keep_beside(client: Any, uri: str, run: Any) -> Any:
    """The run, about to be written to: its artifacts lie beside the database from now on, wherever they lay before.

    For those that stayed in the old place when the repository was moved or copied, which may be somebody else's now.
    """
    path = _database_file(uri)
    if path is None or not (place := re.fullmatch(r"(file:.*/mlartifacts)(/\w+/artifacts)", run.info.artifact_uri)):
        return run
    here = _artifacts_in(path.parent)
    if place[1] == here:
        return run
    with closing(sqlite3.connect(path, timeout=_LONGEST_WAIT, isolation_level=None)) as database:
        new = (here + place[2], run.info.run_id)
        database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", new)
    return client.get_run(run.info.run_id)


def settle_artifact(run: Any, name: str) -> None:
    """Give an artifact, where it is a file of this machine, the mode of any new file; MLflow copies its source's."""
    if run.info.artifact_uri.startswith("file:"):
        settle_mode(_path(run.info.artifact_uri) / name)


def _follow(path: Path) -> None:
    """Let a database that was moved or copied name the place of its artifacts where it is now: beside it.

    MLflow makes every place absolute when an experiment or a run begins (github.com/mlflow/mlflow/pull/7670), has no
    command that changes it for what is there (its `db move-resources` leaves runs as they are), and would go on
    writing to the old place. Only experiments that were made here are touched, and only files that are not still at
    the old place alone.
    """
    here = _artifacts_in(path.parent)
    with closing(sqlite3.connect(path, timeout=_LONGEST_WAIT, isolation_level=None)) as database:
        moved = _experiments_elsewhere(database, here)
        if not moved:
            return
        database.execute("BEGIN IMMEDIATE")
        moved = _experiments_elsewhere(database, here)
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for there in set(moved.values()):
            for table, column in _PLACES_OF_FILES:
                if table in tables:
                    _follow_files(database, table, column, there, here)
        for number, there in moved.items():
            database.execute(
                "UPDATE experiments SET artifact_location = ? || substr(artifact_location, ?) WHERE experiment_id = ?",
                (here, len(there) + 1, number),
            )
        database.execute("COMMIT")
    # Of a new database only MLflow's own `Default` has a place, and there is nothing to say.
    for there in sorted({there for number, there in moved.items() if number}):
        info(f"MLflow's files go to {_path(here)} from now on, no longer to {_path(there)}")


def _experiments_elsewhere(database: sqlite3.Connection, here: str) -> dict[int, str]:
    """The experiments whose place was named here, by number, with that place where it is another than `here`."""
    rows = database.execute(
        "SELECT experiment_id, artifact_location FROM experiments WHERE experiment_id = 0 OR experiment_id IN "
        "(SELECT experiment_id FROM experiment_tags WHERE key = ?)",
        (_EXPERIMENT_KIND,),
    )
    places = {number: re.fullmatch(r"(file:.*/mlartifacts)(/0)?", location or "") for number, location in rows}
    return {number: place[1] for number, place in places.items() if place and place[1] != here}


def _follow_files(database: sqlite3.Connection, table: str, column: str, there: str, here: str) -> None:
    rows = database.execute(
        f"SELECT DISTINCT {column} FROM {table} WHERE substr({column}, 1, ?) = ?", (len(there) + 1, f"{there}/")
    )
    for (old,) in rows.fetchall():
        new = here + old.removeprefix(there)
        if _path(new).exists() or not _path(old).exists():
            database.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))


def _database_file(uri: str) -> Path | None:
    """The file of a sqlite database, absolute; None for other stores, and for one in memory."""
    from sqlalchemy import make_url

    if not uri.startswith("sqlite"):
        return None
    name = make_url(uri).database
    return Path(name).resolve() if name and name != ":memory:" else None


def _artifacts_in(directory: Path) -> str:
    """The URI of `mlartifacts/`; it lies beside the database file, where all that share this may write."""
    return (directory.resolve() / "mlartifacts").as_uri()


def _path(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))


def _escaped(path: Path) -> str:
    """The path within a database's URL; SQLAlchemy reads `%` and `?` there as signs of its own."""
    return path.as_posix().replace("%", "%25").replace("?", "%3F")
