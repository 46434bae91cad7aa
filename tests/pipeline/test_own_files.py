"""DVC watches the user's own files: in the repository and outside of it, and in copies of it. Needs DVC."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.corpora import table
from tests.support.repository import Repository

STORIES = [f"Story {number}. Lily saw {number} frogs." for number in range(300)]


def write(path: Path, stories: list[str]) -> None:
    path.write_bytes(table([{"text": story} for story in stories]))


def status(repository: Repository) -> Any:
    return json.loads(repository.run("dvc", "status", "--json", "download"))


@pytest.mark.slow
def test_dvc_watches_own_files(finished: Repository, tmp_path: Path) -> None:
    repository = finished.copy(tmp_path / "project")
    place = repository.path / "my stories ü"
    place.mkdir()
    write(place / "a.csv", STORIES)
    repository.run("dvc", "add", place.name)
    repository.run("git", "add", ".")
    repository.run("git", "commit", "--quiet", "--message", "My stories")
    run = ("dvc", "exp", "run", "-S", "data.source=files", "-S", "data.files.held_out=0.1")
    where = ("-S", f"data.files.train='{place.name}'")
    # A copy has what git and DVC know.
    assert "documents to train on" in repository.run(*run, "--temp", *where, "download")
    repository.run(*run, *where, "download")
    train = (repository.path / "data/raw/train.txt").read_text().split("\n<|endoftext|>\n")
    assert train[:-1] == [story for story in STORIES if story in train]
    write(place / "b.csv", ["One more."])
    assert status(repository)["download"] == [{"changed deps": {place.name: "modified"}}]
    repository.run("dvc", "repro", "download")
    assert "One more." in (repository.path / "data/raw/train.txt").read_text()
    assert status(repository) == {}
    outside = tmp_path / "elsewhere.csv"
    write(outside, STORIES[:100])
    repository.run(*run, "-S", f"data.files.train={outside}", "download")
    write(outside, STORIES[:99])
    assert status(repository)["download"] == [{"changed deps": {str(outside): "modified"}}]
