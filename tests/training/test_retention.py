"""Retention: some finished states stay, all interrupted ones, until the user frees them."""

from pathlib import Path

from filelock import FileLock

from tests.support.repository import ROOT
from tests.support.saved_states import keys, parent, save_one
from tinystories.training import retention
from tinystories.training.resume import ResumeCheckpoint
from tinystories.training.retention import prune

__all__ = ["parent"]


def test_prune_keeps_the_newest(parent, monkeypatch):
    monkeypatch.setattr(retention, "MAX_FINISHED", 3)
    for age, key in enumerate("abcde"):
        save_one(parent, key, age)
    save_one(parent, "interrupted", 99, ended=None)
    prune(parent, own="a")
    assert keys(parent) == ["a", "b", "c", "interrupted"]
    prune(parent, own="c")
    assert keys(parent) == ["a", "b", "c", "interrupted"]
    save_one(parent, "d", 10)
    prune(parent, own="d")
    assert keys(parent) == ["a", "b", "d", "interrupted"], "its own stays, however old"
    assert sorted(path.stem for path in parent.glob("*.lock")) == ["a", "b", "c", "d", "e", "interrupted"]


def test_prune_keeps_up_to_a_size(parent, monkeypatch):
    monkeypatch.setattr(retention, "MAX_FINISHED_BYTES", 20_000)
    for age, key in enumerate("abcd"):
        save_one(parent, key, age, numbers=2000)
    save_one(parent, "interrupted", 99, ended=None, numbers=9000)
    prune(parent, own="b")
    assert keys(parent) == ["a", "b", "interrupted"]
    save_one(parent, "large", 0, numbers=20_000)
    prune(parent, own="large")
    assert keys(parent) == ["large", "interrupted"]


def test_prune_keeps_a_locked_state(parent, monkeypatch):
    monkeypatch.setattr(retention, "MAX_FINISHED", 1)
    for age, key in enumerate("abc"):
        save_one(parent, key, age)
    with FileLock(parent / "b.lock"):
        prune(parent, own="a")
    assert keys(parent) == ["a", "b"]


def test_prune_keeps_a_training_that_resumed_meanwhile(parent, monkeypatch):
    """It was freed, started over and stopped after it had been inspected."""
    monkeypatch.setattr(retention, "MAX_FINISHED", 1)
    save_one(parent, "a", 0)
    save_one(parent, "b", 1)
    inspect = retention._inspect

    def slowly(directory: Path) -> retention.SavedTraining:
        saved = inspect(directory)
        if directory.name == "b":
            ResumeCheckpoint(directory).remove()
            save_one(parent, "b", 1, ended=None)
        return saved

    found = [slowly(parent / key) for key in "ab"]
    monkeypatch.setattr(retention, "saved_trainings", lambda _: found)
    prune(parent, own="a")
    assert keys(parent) == ["a", "b"]


def test_prune_ignores_damaged_and_empty_directories(parent):
    save_one(parent, "a", 0)
    save_one(parent, "b", 1)
    next((parent / "b").glob("*/trainer_state.json")).write_text("{")
    (parent / "c/tmp").mkdir(parents=True)
    (parent / "d").mkdir()
    prune(parent, own="a")
    assert sorted(keys(parent)) == ["a", "b", "c", "d"]


def test_readme_states_the_bounds():
    assert (retention.MAX_FINISHED, retention.MAX_FINISHED_BYTES) == (8, 4 * 2**30)
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "Eight such states stay, the newest, as long as they have 4 GiB together (the last in any case)" in text
