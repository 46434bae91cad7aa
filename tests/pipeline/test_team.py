"""docs/team.md: what one person trained and pushed, another pulls from git and a DVC remote. Needs git, DVC, MLflow."""

import shutil
from pathlib import Path

import pytest

from tests.support.repository import Repository, results


@pytest.mark.slow
def test_colleague_gets_files_record_and_experiments(two_epochs: Repository, tmp_path: Path) -> None:
    """An experiment made before the remote was committed sends no files; made again, from the cache, it does."""
    mine, theirs, store = two_epochs.copy(tmp_path / "mine"), tmp_path / "theirs", tmp_path / "store"
    first = mine.read("models/run.json")["key"], (mine.path / "models/checkpoint/model.safetensors").read_bytes()
    mine.run("git", "stash", "--include-untracked")  # back to the commit, whose files DVC has
    mine.run("dvc", "checkout")
    mine.run("git", "init", "--quiet", "--bare", "--initial-branch=main", "../team.git")
    mine.run("git", "remote", "add", "origin", str(tmp_path / "team.git"))
    mine.run("dvc", "remote", "add", "--default", "team", str(store))
    mine.run("git", "commit", "--quiet", "--all", "--message", "Remote of the team")
    mine.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    mine.run("dvc", "exp", "push", "origin", "two-epochs")
    assert not store.exists(), "should this fail, docs/team.md needs its warning no more"
    mine.run("dvc", "exp", "run", "--name", "again", "-S", "train.epochs=2")
    mine.run("git", "checkout", "--", ".")
    mine.run("dvc", "exp", "push", "origin", "again")
    mine.run("dvc", "checkout")
    mine.run("dvc", "push")

    mine.run("git", "clone", "--quiet", str(tmp_path / "team.git"), str(theirs))
    shutil.rmtree(mine.path)  # all comes from git and the remote
    colleague = Repository(theirs)
    colleague.run("dvc", "pull")
    output = colleague.run("dvc", "repro")
    assert [line for line in output.splitlines() if line.startswith("Running")] == ["Running stage 'publish':"]
    assert colleague.run("git", "status", "--short") == ""
    assert colleague.run("dvc", "status", "--cloud").strip() == "Cache and remote 'team' are in sync."
    (run,) = colleague.runs()
    assert run.data.metrics["final/valid_loss"] == colleague.read("reports/evaluate.json")["valid_loss"]
    assert "checkpoint/model.safetensors" in colleague.artifacts(run)
    colleague.run("dvc", "exp", "pull", "origin", "again")
    colleague.run("dvc", "exp", "apply", "again")
    key, weights = first
    assert colleague.read("models/run.json")["key"] == key
    assert (theirs / "models/checkpoint/model.safetensors").read_bytes() == weights
    assert len(results(run)) > 5
