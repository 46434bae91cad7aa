"""The stage `download` in a test: its parameters, and what it has written."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import PARAMS
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.params_file import load_params
from tinystories.common.paths import RAW_MANIFEST, RAW_TRAIN, RAW_VALID
from tinystories.corpus.stories import read_stories
from tinystories.sources.prepare import prepare

STORIES = [f"Story {number}.\n\nLily saw {number} frogs é." for number in range(400)]


def params(source: str, seed: int = 1337, **section: object) -> Params:
    values = load_params(PARAMS).model_dump()
    values["seed"] = values["data"]["embedded"]["seed"] = seed
    values["data"]["source"] = source
    values["data"][source].update(section)
    return Params.model_validate(values)


def own(**section: object) -> Params:
    """Parameters of the source `files`; without `valid` a share is held out."""
    Path("none").mkdir(exist_ok=True)
    return params("files", **{"valid": "none", **section})  # type: ignore[arg-type]


def write(path: Path, stories: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n<|endoftext|>\n".join(stories).encode())


def manifest() -> dict[str, Any]:
    """The manifest, after a check that it is true."""
    found: dict[str, Any] = json.loads(RAW_MANIFEST.read_text())
    for split, path in (("train", RAW_TRAIN), ("valid", RAW_VALID)):
        data = path.read_bytes()
        stories = list(read_stories(path))
        sha256 = hashlib.sha256(data).hexdigest()
        assert found[split] == {"bytes": len(data), "stories": len(stories), "sha256": sha256}
        assert data == b"".join(f"{story}\n<|endoftext|>\n".encode() for story in stories)
    assert list(found) == ["source", "detail", "train", "valid"]
    return found


def splits() -> tuple[list[str], list[str]]:
    return list(read_stories(RAW_TRAIN)), list(read_stories(RAW_VALID))


def problem(given: Params) -> str:
    """The message of a source that fails; it leaves nothing half-written."""
    with pytest.raises(UserError) as error:
        prepare(given)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)
    assert not Path("data").exists() or not [path for path in Path("data").rglob("*") if path.is_file()]
    downloads = Path(".state/downloads")
    assert not downloads.exists() or not [path for path in downloads.iterdir() if path.suffix not in (".lock", ".part")]
    return str(error.value)
