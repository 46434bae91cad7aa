"""docs/team.md: what one person trained and pushed, another pulls from git and a DVC remote. Needs git, DVC, MLflow."""

import shutil
from pathlib import Path

import pytest

from tests.support.repository import Repository, results


@pytest.mark.slow
def test_colleague_gets_files_record_and_experiments(finished: Repository, tmp_path: Path) -> None:
    """An experiment from before the remote was committed sends no files; one from after it does."""
    mine, theirs, store = finished.copy(tmp_path / "mine"), tmp_path / "theirs", tmp_path / "store"
    mine.run("git", "init", "--quiet", "--bare", "--initial-branch=main", "../team.git")
    mine.run("git", "remote", "add", "origin", str(tmp_path / "team.git"))
    mine.change(mlflow__experiment="team")
    mine.run("dvc", "exp", "save", "--name", "before")
    mine.run("git", "checkout", "--", ".")
    mine.run("dvc", "remote", "add", "--default", "team", str(store))
    mine.run("git", "commit", "--quiet", "--all", "--message", "Remote of the team")
    mine.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    mine.run("dvc", "exp", "push", "origin", "before")
    assert not store.exists(), "should this fail, docs/team.md needs its warning no more"
    mine.change(mlflow__experiment="team")
    mine.run("dvc", "exp", "save", "--name", "again")
    mine.run("git", "checkout", "--", ".")
    assert "files uploaded" in mine.run("dvc", "exp", "push", "origin", "again")
    mine.run("dvc", "push")

    mine.run("git", "clone", "--quiet", str(tmp_path / "team.git"), str(theirs))
    shutil.rmtree(mine.path)  # all comes from git and the remote
    colleague = Repository(theirs)
    colleague.run("dvc", "pull")
    output = colleague.run("dvc", "repro")
    assert [line for line in output.splitlines() if line.startswith("Running")] == ["Running stage 'publish':"]
    assert colleague.run("git", "status", "--short") == ""
    assert "up to date" in colleague.run("dvc", "status")
    run, original = colleague.only_run(), finished.only_run()
    assert results(run) == results(original)
    assert colleague.artifacts(run) == finished.artifacts(original)
    assert colleague.points(run, "train/loss") == finished.points(original, "train/loss")
    colleague.run("dvc", "exp", "pull", "origin", "again")
    colleague.run("dvc", "exp", "apply", "again")
    assert "team" in (theirs / "params.yaml").read_text()
