"""What a fresh machine lacks, and the presets. Needs make, git and DVC; the one that mounts a disk, the right to."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from tests.conftest import SmallDisk
from tests.support.repository import PARAMS, ROOT, SMALL, Repository, preset

# As `make` has them after its installation.
INSTALLED = ["--no-print-directory", "-o", ".venv/.installed", f"BIN={Path(sys.executable).parent}"]
IN_SECONDS = "SMALL=" + " ".join(
    f"{key}={value}" for key, value in SMALL.items() if not key.startswith("data.") and key != "sample.prompts"
)


@pytest.fixture
def bare(repository: Repository) -> Repository:
    """On a machine where git knows no name and the login shell is none."""
    repository.environment = {
        name: value for name, value in repository.environment.items() if not name.startswith("GIT_")
    } | {"SHELL": "/usr/sbin/nologin", "GIT_CONFIG_NOSYSTEM": "1"}
    return repository


@pytest.mark.slow
def test_presets_work_without_git_identity_and_login_shell(bare: Repository) -> None:
    """Also the second time, when params.yaml has changed; and with names that DVC's grammar would take apart."""
    files = bare.path / "my stories, (all)"
    files.mkdir()
    shutil.copy(bare.path / "data/raw/train.txt", files / "one.txt")
    bare.run("make", *INSTALLED, "quickstart", "QUICKSTART=sample.top_k=3", IN_SECONDS)
    output = bare.run("make", *INSTALLED, "mytext", f"FILES={files.name}", IN_SECONDS)
    written = yaml.safe_load((bare.path / "params.yaml").read_text())["data"]["files"]
    assert (written["train"], written["valid"]) == (files.name, "data/own/valid")
    assert len(bare.runs()) == 3
    assert {"git config user.name you", "export SHELL=/bin/sh"} <= {line.strip() for line in output.splitlines()}
    assert max(map(len, output.partition("params.yaml holds")[2].splitlines())) <= 80
    assert "No file hash info" not in output
    # What the output tells to do is what helps.
    for command in ("git config user.name you", "git config user.email you@example.org"):
        bare.run(*command.split())
    bare.environment["SHELL"] = "/bin/sh"
    output = bare.run("make", *INSTALLED, "mytext", f"FILES={files.name}", IN_SECONDS)
    assert "git config" not in output and "export" not in output
    bare.run("dvc", "exp", "run", "-S", "sample.top_k=4")


def test_quickstart_shows_why_dvc_stops(bare: Repository) -> None:
    output = bare.run("make", *INSTALLED, "quickstart", "SMALL=train.epoch=3", fails=True)
    assert "Could not override 'train.epoch'" in output
    assert "Having any troubles?" not in output


def test_make_needs_a_repository_that_may_be_written(small_disk: SmallDisk) -> None:
    shutil.copy(ROOT / "Makefile", small_disk.path)
    environment = {"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(small_disk.path.parent)}

    def make(*words: str) -> str:
        done = subprocess.run(["make", *words], cwd=small_disk.path, env=environment, capture_output=True, text=True)
        assert done.returncode == 2 and not (small_disk.path / ".venv").exists()
        return done.stdout

    assert make("mytext") == "Which files? make mytext FILES=my_stories\n"
    repository = "git finds no commit here, and DVC needs one: git clone, or git init and commit\n"
    assert make("quickstart") == make("reproduce") == make("record") == repository
    small_disk.forbid_writing()
    assert make("quickstart").startswith("This directory is read-only; ")


@pytest.mark.parametrize("files", ["*.txt", "nowhere/*.txt", "nowhere"])
def test_mytext_refuses_files_that_are_not_there(tmp_path: Path, files: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, "commit", "--quiet", "--allow-empty", "-m", "a"], cwd=tmp_path, check=True)
    command = ["make", *INSTALLED, "mytext", f"FILES={files}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{files}: no such file or directory; DVC watches one: make mytext FILES=my_stories\n"


def test_reproduce_refuses_another_run(repository: Repository) -> None:
    repository.change(seed=7)
    output = repository.run("make", *INSTALLED, "reproduce", fails=True)
    assert "params.yaml is not as committed: git checkout params.yaml first" in output and "> python" not in output


@pytest.mark.parametrize("changes", [preset("QUICKSTART") + preset("SMALL"), ["data.files.train=one.txt"]])
def test_dvc_changes_only_the_values(changes: list[str], tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(PARAMS, path)
    before = path.read_text(encoding="utf-8").splitlines()
    apply_overrides(path, changes)
    after = path.read_text(encoding="utf-8").splitlines()
    differing = [line for line, old in zip(after, before, strict=True) if line != old]
    assert len(differing) == len(
        set(changes) - {"train.epochs=2", "data.files.train=data/own/train", "data.files.valid=data/own/valid"}
    )
    for change in changes:
        name, value = change.split("=")
        assert any(line.strip().startswith(f"{name.split('.')[-1]}: {value} ") for line in after), change
