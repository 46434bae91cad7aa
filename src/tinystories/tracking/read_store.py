"""Open MLflow's record to read from it: what is not there is not created, and each error is one line.

mlflow is imported inside functions only, because the import takes seconds.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tinystories.common.errors import UserError
from tinystories.common.urls import shown_address, store_problem
from tinystories.tracking.mlflow_run import error_summary
from tinystories.tracking.mlflow_store import configure_client, connect, sqlite_path

_CALL_TIMEOUT = 10  # seconds to wait for a server's answer, or for another process's lock


@contextmanager
def read_store(uri: str, what: str = "") -> Iterator[Any]:
    """Give a client of the store at `uri`. What it, or the block, raises becomes one line.

    `what`: put before the address, as in `models:/a@b from `. Errors: UserError where the store cannot be read.
    """
    shown = shown_address(uri)
    if problem := store_problem(uri):
        raise UserError(f"MLFLOW_TRACKING_URI is {shown!r}; it {problem}")
    try:
        if uri.startswith("sqlite") and (file := sqlite_path(uri)):
            _check_database(file)
        configure_client(_CALL_TIMEOUT)
        yield connect(uri)
    except Exception as error:
        raise UserError(f"{what}MLflow at {shown}: {error_summary(error)}") from None


def _check_database(file: Path) -> None:
    """Ask a sqlite file ourselves: MLflow would create a missing one, and try a locked one for minutes."""
    if not file.exists():
        raise UserError("no such file; nothing has been recorded there")
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=_CALL_TIMEOUT)) as database:
            database.execute("SELECT count(*) FROM experiments").fetchone()
    except sqlite3.Error as error:
        if "no such table" in str(error):
            raise UserError("a database, but not MLflow's") from None
        locked = "; another process holds it for long, try again" if "locked" in str(error) else ""
        raise UserError(f"{error}{locked}") from None
