"""DVC sees the model that a training goes on from: its place, and its files. Needs DVC and MLflow."""

import json
import shutil

import pytest

from tests.support.repository import Repository

PLACE = "data/own/parent/first"


@pytest.mark.slow
def test_dvc_watches_the_parent(finished: Repository, tmp_path):
    repository = finished.copy(tmp_path / "project")
    place, checkpoint = repository.path / PLACE, repository.path / "models/checkpoint"
    shutil.copytree(checkpoint, place)
    tokenizer = (repository.path / "data/tokenizer/tokenizer.json").read_bytes()
    said = repository.run("dvc", "exp", "run", "-S", f"train.init_from={PLACE}", "train")
    assert f"that of {PLACE} is taken over" in said and f"Going on from {PLACE}: before training" in said
    assert "Running stage 'tokenize_to_memmap'" not in said, "the same entries are the same file"
    assert (repository.path / "data/tokenizer/tokenizer.json").read_bytes() == tokenizer
    first = repository.read("models/run.json")
    assert first["parent"]["init_from"] == PLACE
    tags = [run.data.tags for run in repository.runs() if run.info.run_id == first["run_id"]]
    assert [tag["pipeline.parent"] for tag in tags] == [PLACE]
    assert "up to date" in repository.run("dvc", "status", "train_tokenizer", "train")

    shutil.rmtree(place)
    shutil.copytree(checkpoint, place)
    status = json.loads(repository.run("dvc", "status", "--json", "train_tokenizer"))
    assert status == {"train_tokenizer": [{"changed deps": {"data/own/parent": "modified"}}]}
    repository.run("dvc", "repro", "train")
    second = repository.read("models/run.json")
    assert second["parent"]["sha256"] != first["parent"]["sha256"] and second["key"] != first["key"]
