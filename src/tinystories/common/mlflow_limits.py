"""MLflow's limits of text lengths, in characters, and how a longer text is cut visibly.

Source: mlflow/utils/validation.py and mlflow/store/tracking/dbmodels/models.py of MLflow 3.17; a test compares them.
Names of metrics and artifacts are always short enough.
"""

import json
from typing import Any

MAX_EXPERIMENT_NAME = 256  # the database column; MLflow's own check allows 500, which only SQLite takes
MAX_RUN_NAME = 250  # the database column; MLflow does not check it
MAX_PARAM = 6000
MAX_TAG = 8000
MAX_SOURCE = 65_535  # a data set's source, as JSON

_MAX_SOURCE_TEXT = 1000  # one text in a source, such as a path
_ALL = "data/raw/manifest.json has all"


def cut(text: str, max_length: int) -> str:
    """Cut a text to at most `max_length` characters, with a note of its full length."""
    if len(text) <= max_length:
        return text
    note = f" ... ({len(text):,} characters)"
    return text[: max_length - len(note)] + note


def cut_source(source: dict[str, Any]) -> str:
    """Encode a data set's source as JSON, its lists of files cut to as many entries as MLflow takes, with a note.

    It is ASCII, because MySQL's limit is in bytes.
    """
    most = max(map(len, _lists(source)), default=0)
    while len(text := json.dumps(_shortened(source, most))) > MAX_SOURCE and most:
        most = most * 9 // 10
    return text


def _lists(value: Any) -> list[list[Any]]:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [found for part in inner for found in _lists(part)] + ([value] if isinstance(value, list) else [])


def _shortened(value: Any, most: int) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(part, most) for key, part in value.items()}
    if isinstance(value, list):
        more = [f"... ({len(value):,} in all; {_ALL})"] if len(value) > most else []
        return [_shortened(part, most) for part in value[:most]] + more
    return cut(value, _MAX_SOURCE_TEXT) if isinstance(value, str) else value
