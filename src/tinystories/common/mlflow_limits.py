"""How much MLflow takes of a text, in characters, and how what is longer is cut so that one can see it.

From mlflow/utils/validation.py and mlflow/store/tracking/dbmodels/models.py of MLflow 3.17; a test compares them. What
is no parameter here is short by its making (names of metrics and artifacts) or checked by MLflow alone.
"""

import json
from typing import Any

MAX_EXPERIMENT_NAME = 256  # the databases' column; MLflow's own check allows 500, which only sqlite takes
MAX_RUN_NAME = 250  # the same; MLflow does not check it
MAX_PARAM = 6000
MAX_TAG = 8000
LONGEST_SOURCE = 65_535  # of a data set: where it is from, as JSON

_LONGEST_IN_SOURCE = 1000  # one text in it, such as a path
_ALL = "data/raw/manifest.json has all"


def cut(text: str, longest: int) -> str:
    """The text, or its beginning and how many characters were left out; at most `longest` characters of UTF-8."""
    if len(text) <= longest:
        return text
    note = f" ... ({len(text):,} characters)"
    return text[: longest - len(note)] + note


def cut_source(source: dict[str, Any]) -> str:
    """A data set's source as JSON, of its lists (of files) as many entries as MLflow takes, and how many there are.

    ASCII, for of MySQL's databases the limit is in bytes.
    """
    most = max(map(len, _lists(source)), default=0)
    while len(text := json.dumps(_shortened(source, most))) > LONGEST_SOURCE and most:
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
    return cut(value, _LONGEST_IN_SOURCE) if isinstance(value, str) else value
