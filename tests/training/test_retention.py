"""Retention: some finished states stay, all interrupted ones, until the user frees them. Needs make."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from tests.support.repository import ROOT
from tinystories.training import retention
from tinystories.training.resume import ResumeCheckpoint, TrainerState, lock_checkpoint
from tinystories.training.retention import main, prune, saved_trainings


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path / ".state/train"


def save(parent: Path, key: str, age: int, ended: str | None = "now", numbers: int = 1000) -> None:
    """Save a state of about 4 bytes a number, `age` seconds ago."""
    with lock_checkpoint(parent, key) as checkpoint:
        checkpoint.save({"weights": torch.zeros(numbers)}, TrainerState(started="then", ended=ended, step=1234))
    for path in (parent / key).rglob("*"):
        os.utime(path, (time.time() - age,) * 2)


def keys(parent: Path) -> list[str]:
    return [saved.key for saved in saved_trainings(parent)]


def test_prune_keeps_the_newest(parent, monkeypatch):
    monkeypatch.setattr(retention, "MAX_FINISHED", 3)
    for age, key in enumerate("abcde"):
        save(parent, key, age)
    save(parent, "interrupted", 99, ended=None)
    prune(parent, own="a")
    assert keys(parent) == ["a", "b", "c", "interrupted"]
    prune(parent, own="c")
    assert keys(parent) == ["a", "b", "c", "interrupted"]
    save(parent, "d", 10)
    prune(parent, own="d")
    assert keys(parent) == ["a", "b", "d", "interrupted"], "its own stays, however old"
    assert sorted(path.stem for path in parent.glob("*.lock")) == ["a", "b", "c", "d", "e", "interrupted"]


def test_prune_keeps_up_to_a_size(parent, monkeypatch):
    monkeypatch.setattr(retention, "MAX_FINISHED_BYTES", 20_000)
    for age, key in enumerate("abcd"):
        save(parent, key, age, numbers=2000)
    save(parent, "interrupted", 99, ended=None, numbers=9000)
    prune(parent, own="b")
    assert keys(parent) == ["a", "b", "interrupted"]
    save(parent, "large", 0, numbers=20_000)
    prune(parent, own="large")
    assert keys(parent) == ["large", "interrupted"]


def test_prune_keeps_a_locked_state(parent, monkeypatch):
    monkeypatch.setattr(retention, "MAX_FINISHED", 1)
    for age, key in enumerate("abc"):
        save(parent, key, age)
    with FileLock(parent / "b.lock"):
        prune(parent, own="a")
    assert keys(parent) == ["a", "b"]


def test_prune_keeps_a_training_that_resumed_meanwhile(parent, monkeypatch):
    """It was freed, started over and stopped after it had been inspected."""
    monkeypatch.setattr(retention, "MAX_FINISHED", 1)
    save(parent, "a", 0)
    save(parent, "b", 1)
    inspect = retention._inspect

    def slowly(directory: Path) -> retention.SavedTraining:
        saved = inspect(directory)
        if directory.name == "b":
            ResumeCheckpoint(directory).remove()
            save(parent, "b", 1, ended=None)
        return saved

    found = [slowly(parent / key) for key in "ab"]
    monkeypatch.setattr(retention, "saved_trainings", lambda _: found)
    prune(parent, own="a")
    assert keys(parent) == ["a", "b"]


def test_prune_ignores_damaged_and_empty_directories(parent):
    save(parent, "a", 0)
    save(parent, "b", 1)
    next((parent / "b").glob("*/trainer_state.json")).write_text("{")
    (parent / "c/tmp").mkdir(parents=True)
    (parent / "d").mkdir()
    prune(parent, own="a")
    assert sorted(keys(parent)) == ["a", "b", "c", "d"]


def test_main_lists_and_frees(parent, capsys):
    main([])
    assert capsys.readouterr().out == f"{parent}: no saved states\n"
    save(parent, "f" * 64, 0, numbers=500_000)
    save(parent, "1" * 64, 1, ended=None)
    save(parent, "2" * 64, 2, ended=None)
    next((parent / ("2" * 64)).glob("*/trainer_state.json")).unlink()
    with FileLock(parent / f"{'1' * 64}.lock"):
        main([])
    finished, running, broken = capsys.readouterr().out.splitlines()
    assert finished.split()[:6] == ["f" * 12, "1,234", "steps", "finished", "2.0", "MB"]
    assert running.split()[:4] == ["1" * 12, "1,234", "steps", "running"]
    assert broken.split()[:5] == ["2" * 12, "?", "steps", "not", "readable"]
    main(["--free"])
    assert keys(parent) == ["1" * 64, "2" * 64]
    assert "Freed 1 of 3 saved states, 2.0 MB.\nUnfinished ones stay" in capsys.readouterr().out
    with FileLock(parent / f"{'1' * 64}.lock"):
        main(["--free", "--all"])
    assert keys(parent) == ["1" * 64]
    main(["--free", "--all"])
    assert keys(parent) == []
    assert sorted(path.suffix for path in parent.iterdir()) == [".lock"] * 3


@pytest.mark.slow
def test_make_calls_main(parent):
    save(parent, "f" * 64, 0)
    options = ["-f", str(ROOT / "Makefile"), "-o", ".venv/.installed", f"BIN={Path(sys.executable).parent}"]
    for target, words in (("state", "finished"), ("clean-state", "Freed 1 of 1"), ("state", "no saved states")):
        done = subprocess.run(["make", *options, target], cwd=parent.parents[1], capture_output=True, text=True)
        assert done.returncode == 0 and words in done.stdout, done.stdout + done.stderr


def test_readme_states_the_bounds():
    assert (retention.MAX_FINISHED, retention.MAX_FINISHED_BYTES) == (8, 4 * 2**30)
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "Eight such states stay, the newest, as long as they have 4 GiB together (the last in any case)" in text
