"""All MLflow runs come back from git and DVC's cache after the database was lost. Needs git, DVC and MLflow."""

import shutil
import sys
from pathlib import Path
from typing import Any

from tests.support.repository import Repository, results

RECORD = (sys.executable, "-m", "tinystories.publishing.record")


def recorded(repository: Repository) -> dict[str, Any]:
    """What the runs say, by name."""
    return {
        run.info.run_name: (run.info.status, run.data.params, results(run), repository.artifacts(run))
        for run in repository.runs()
    }


def test_record_brings_back_every_run(two_epochs: Repository, tmp_path: Path) -> None:
    repository = two_epochs.copy_with_record(tmp_path / "project")
    # The same training, evaluated otherwise: a run of its own.
    repository.run("dvc", "exp", "run", "--name", "evaluated", "-S", "evaluate.batch_size=3")
    before, changed = recorded(repository), repository.run("git", "status", "--porcelain")
    assert len(before) == 3
    (repository.path / "mlflow.db").unlink()
    shutil.rmtree(repository.path / "mlartifacts")

    for _ in range(2):  # again, nothing is new
        output = repository.run(*RECORD)
        assert output.count("MLflow run") == 3 and "warning" not in output
        assert recorded(repository) == before
    assert repository.run("git", "status", "--porcelain") == changed
    assert not list((repository.path / ".state").glob("record-*"))


def test_record_says_what_it_cannot_bring_back(repository: Repository) -> None:
    shutil.rmtree(repository.path / ".dvc/cache/files")
    (repository.path / "mlflow.db").unlink()
    output = repository.run(*RECORD, fails=True)
    commit = repository.run("git", "rev-parse", "HEAD")[:7]
    assert output.startswith(f"warning: {commit} is left out: its files are not all in DVC's cache"), output
    assert output.count("\n") == 1


def test_record_outside_a_repository_is_one_line(finished: Repository, tmp_path: Path) -> None:
    other = Repository(tmp_path)
    other.environment["GIT_CEILING_DIRECTORIES"] = str(tmp_path.parent)
    output = other.run(*RECORD, fails=True)
    assert output.startswith("error: ") and output.count("\n") == 1, output
