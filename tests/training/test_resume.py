"""The resume checkpoint: saved, loaded and removed, with a kill at every line. See also test_resume_damage, _lock."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from tests.support.saved_states import STATE, at, names, same, tensors
from tinystories.training import resume as module
from tinystories.training.resume import TENSORS, ResumeCheckpoint, lock_checkpoint


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "key"


def test_load_gives_back_every_bit(directory):
    ResumeCheckpoint(directory).save(tensors(), STATE)
    loaded = ResumeCheckpoint(directory).load(tensors())
    assert loaded is not None
    assert same(loaded[0], tensors())
    assert loaded[1] == STATE


def test_save_takes_weights_that_require_gradients(directory):
    ResumeCheckpoint(directory).save({"weight": torch.nn.Parameter(torch.ones(2))}, at(0))
    loaded = ResumeCheckpoint(directory).load({"weight": torch.ones(2)})
    assert loaded is not None
    assert not loaded[0]["weight"].requires_grad


def test_load_of_nothing_is_none(directory, capsys):
    assert ResumeCheckpoint(directory).load(tensors()) is None
    assert capsys.readouterr().out == ""


def test_save_replaces_the_state_before(directory):
    saved = ResumeCheckpoint(directory)
    for step in (9, 10, 10, 200):
        saved.save(tensors(step), at(step))
        assert len(names(directory)) == 1
        loaded = saved.load(tensors())
        assert loaded is not None
        assert same(loaded[0], tensors(step))
        assert loaded[1] == at(step)


def test_save_that_fails_keeps_the_state_before(directory, monkeypatch, capsys):
    saved = ResumeCheckpoint(directory)
    saved.save(tensors(1), at(1))

    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(OSError, match="no space left"):
        saved.save(tensors(2), at(2))
    loaded = saved.load(tensors())
    assert loaded is not None
    assert loaded[1] == at(1)
    monkeypatch.undo()
    saved.save(tensors(3), at(3))
    assert names(directory) == ["step-000000000003"]


@pytest.mark.parametrize("step", [10, 11])
def test_save_leaves_an_intact_state_at_every_line(directory, step):
    """Also where there is a state of the same step: before and after a validation."""
    ResumeCheckpoint(directory).save(tensors(1), at(10, "before"))
    found: list[str] = []

    def look(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        loaded = ResumeCheckpoint(directory).load(tensors())
        found.append(str(loaded[1].run_id) if loaded else "none")
        return look

    sys.settrace(lambda frame, *rest: look(frame, *rest) if frame.f_code is ResumeCheckpoint.save.__code__ else None)
    try:
        ResumeCheckpoint(directory).save(tensors(2), at(step, "new"))
    finally:
        sys.settrace(None)
    assert len(found) > 10
    assert found == sorted(found), "before, then new"
    assert (found[0], found[-1]) == ("before", "new")
    assert len(names(directory)) == 1


def test_load_takes_the_newest_step(directory):
    for step in (99, 1_000_000):
        saved = directory.with_name(str(step)) / directory.name
        ResumeCheckpoint(saved).save(tensors(step), at(step))
        directory.mkdir(exist_ok=True)
        next(saved.iterdir()).rename(directory / f"step-{step:012}")
    loaded = ResumeCheckpoint(directory).load(tensors())
    assert loaded is not None
    assert loaded[1] == at(1_000_000)


def test_load_takes_the_newest_of_one_step(directory, monkeypatch):
    """As kills leave them that come before the older ones are removed."""
    monkeypatch.setattr(module, "_remove", lambda _: None)
    for number in range(12):
        ResumeCheckpoint(directory).save(tensors(number), at(20, str(number)))
        loaded = ResumeCheckpoint(directory).load(tensors())
        assert loaded is not None
        assert loaded[1].run_id == str(number)


def test_remove_killed_leaves_no_damaged_state(directory, monkeypatch, capsys):
    """What deletes it stops after some files. The next training deletes the rest."""
    ResumeCheckpoint(directory).save(tensors(), STATE)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path, **_: next(path.rglob("*.json")).unlink())
        ResumeCheckpoint(directory).remove()
    assert ResumeCheckpoint(directory).load(tensors()) is None
    assert capsys.readouterr().out == ""
    assert len(names(directory.parent)) == 1, "what is left"
    with lock_checkpoint(directory.parent, directory.name):
        pass
    assert names(directory.parent) == ["key.lock"]


def test_lock_checkpoint_deletes_what_a_killed_save_left(directory, monkeypatch):
    ResumeCheckpoint(directory).save(tensors(1), at(1))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path, **_: None)
        ResumeCheckpoint(directory).save(tensors(2), at(2))
    assert len(names(directory)) == 2
    with lock_checkpoint(directory.parent, directory.name):
        assert names(directory) == ["step-000000000002"]


def test_load_ignores_a_half_written_state(directory):
    (directory / "tmp").mkdir(parents=True)
    (directory / "tmp" / TENSORS).write_bytes(b"half")
    assert ResumeCheckpoint(directory).load(tensors()) is None
    ResumeCheckpoint(directory).save(tensors(), STATE)
    assert names(directory) == ["step-000000000003"]


def test_remove_deletes_all(directory):
    ResumeCheckpoint(directory).save(tensors(), STATE)
    ResumeCheckpoint(directory).remove()
    assert ResumeCheckpoint(directory).load(tensors()) is None
    assert not directory.exists()
    ResumeCheckpoint(directory).remove()
