"""The state from which a stopped training goes on."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tinystories.common.files import checksum, sha256_of
from tinystories.training import resume as module
from tinystories.training.resume import TRAINER_STATE, TENSORS, TrainerState, ResumeCheckpoint, lock_checkpoint


def tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weights": torch.randn(5, 7, generator=generator),
        "transposed": torch.randn(5, 7, generator=generator).T,
        "rounded": torch.randn(9, generator=generator).bfloat16(),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "sum": torch.tensor(1.25),
    }


RECORDED = TrainerState(
    started="2026-11-27T17:00:00+00:00",
    environment={"threads": 2, "compiled": True, "git_commit": None, "device": "cpu"},
    step=3,
    seconds=0.1 + 0.2,
    history=[{"step": 1, "loss": 2.0}],
    samples=["Zoë 🐉\n"],
)


def at(step: int, name: str | None = None) -> TrainerState:
    return TrainerState(started="then", step=step, run_id=name)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype
        and found[name].shape == tensor.shape
        and found[name].contiguous().view(torch.uint8).equal(tensor.contiguous().view(torch.uint8))
        if tensor.ndim
        else torch.equal(found[name], tensor)
        for name, tensor in expected.items()
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "key"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_saved_comes_back_to_the_bit(directory):
    ResumeCheckpoint(directory).save(tensors(), RECORDED)
    loaded = ResumeCheckpoint(directory).load(tensors())
    assert loaded is not None
    assert same(loaded[0], tensors())
    assert loaded[1] == RECORDED


def test_weights_that_learn_can_be_saved(directory):
    ResumeCheckpoint(directory).save({"weight": torch.nn.Parameter(torch.ones(2))}, at(0))
    loaded = ResumeCheckpoint(directory).load({"weight": torch.ones(2)})
    assert loaded is not None
    assert not loaded[0]["weight"].requires_grad


def test_nothing_saved(directory, capsys):
    assert ResumeCheckpoint(directory).load(tensors()) is None
    assert capsys.readouterr().out == ""


def test_a_new_state_takes_the_place_of_the_old(directory):
    saved = ResumeCheckpoint(directory)
    for step in (9, 10, 10, 200):
        saved.save(tensors(step), at(step))
        assert len(names(directory)) == 1
        loaded = saved.load(tensors())
        assert loaded is not None
        assert same(loaded[0], tensors(step))
        assert loaded[1] == at(step)


def test_an_error_while_saving_keeps_the_one_before(directory, monkeypatch, capsys):
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
def test_at_every_line_of_saving_a_whole_state_is_there(directory, step):
    """Also where a state of the very same step is there already: before and after a validation."""
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


def damage(path: Path, how: str) -> None:
    data = (path / TENSORS).read_bytes()
    if how == "cut":
        (path / TENSORS).write_bytes(data[:-1])
    elif how == "longer":
        (path / TENSORS).write_bytes(data + b"\0")
    elif how == "one bit":
        (path / TENSORS).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "one bit of the header":
        (path / TENSORS).write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    elif how == "other tensors":
        save_file({"weights": torch.ones(5, 7)}, path / TENSORS)
    elif how == "other number in the record":
        (path / TRAINER_STATE).write_text((path / TRAINER_STATE).read_text().replace('"step": 12', '"step": 13'))
    elif how == "no number in the record":
        (path / TRAINER_STATE).write_text((path / TRAINER_STATE).read_text().replace('"step": 12', '"step": NaN'))
    elif how == "record of the older":
        shutil.copy(path.parent.with_name("older") / "key" / "step-000000000007" / TRAINER_STATE, path / TRAINER_STATE)
    elif how == "a version without a checksum of the record":
        (path / TRAINER_STATE).write_text(json.dumps({"sha256": sha256_of(path / TENSORS), "record": {"step": 12}}))
    elif how == "a file in its place":
        shutil.rmtree(path)
        path.write_text("")
    elif how == "no tensors":
        (path / TENSORS).unlink()
    elif how == "no record":
        (path / TRAINER_STATE).unlink()
    else:
        (path / TRAINER_STATE).write_text(how)


DAMAGES = [
    "cut",
    "longer",
    "one bit",
    "one bit of the header",
    "other tensors",
    "other number in the record",
    "no number in the record",
    "record of the older",
    "a version without a checksum of the record",
    "a file in its place",
    "no tensors",
    "no record",
    "",
    "{",
    "[]",
    "{}",
    '{"checksum": ""}',
    '{"checksum": null, "record": {}}',
    '{"record": ' + "[" * 10_000,
]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_state_is_left_out_with_a_warning(directory, capsys, how):
    """The one before, which a stop between the rename and the removal leaves, is taken then."""
    older = directory.with_name("older") / directory.name
    ResumeCheckpoint(older).save(tensors(7), at(7))
    ResumeCheckpoint(directory).save(tensors(12), at(12))
    damage(directory / "step-000000000012", how)
    assert ResumeCheckpoint(directory).load(tensors()) is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("warning: ")
    assert "step-000000000012: this saved state is damaged" in lines[0]
    assert lines[1] == "warning: no saved state is whole: this training starts anew"

    (older / "step-000000000007").rename(directory / "step-000000000007")
    loaded = ResumeCheckpoint(directory).load(tensors())
    assert loaded is not None
    assert same(loaded[0], tensors(7))
    assert loaded[1] == at(7)


def test_every_bit_counts(directory):
    ResumeCheckpoint(directory).save(tensors(12), at(12))
    for name in (TENSORS, TRAINER_STATE):
        path = directory / "step-000000000012" / name
        data = path.read_bytes()
        for place in range(0, len(data), 7):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
            loaded = ResumeCheckpoint(directory).load(tensors())
            # A record laid out another way, with the same contents, is as good.
            assert loaded is None or (same(loaded[0], tensors(12)) and loaded[1] == at(12))
        path.write_bytes(data)
    assert ResumeCheckpoint(directory).load(tensors()) is not None


def test_the_state_of_another_training_is_left_out(directory, capsys):
    """Of another seed, say: its tensors would fit."""
    ResumeCheckpoint(directory.with_name("other")).save(tensors(3), at(3))
    directory.with_name("other").rename(directory)
    assert ResumeCheckpoint(directory).load(tensors()) is None
    assert "its checksum is wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    "expected",
    [
        {},
        {**tensors(), "more": torch.ones(1)},
        {name: tensor for name, tensor in tensors().items() if name != "odd"},
        {**tensors(), "weights": torch.ones(5, 6)},
        {**tensors(), "weights": torch.ones(5, 7).double()},
    ],
)
def test_a_state_of_another_model_is_left_out_whole(directory, capsys, expected):
    ResumeCheckpoint(directory).save(tensors(3), at(3))
    assert ResumeCheckpoint(directory).load(expected) is None
    assert "its tensors are of another model" in capsys.readouterr().out


def test_the_newest_of_two_is_taken(directory):
    for step in (99, 1_000_000):
        saved = directory.with_name(str(step)) / directory.name
        ResumeCheckpoint(saved).save(tensors(step), at(step))
        directory.mkdir(exist_ok=True)
        next(saved.iterdir()).rename(directory / f"step-{step:012}")
    loaded = ResumeCheckpoint(directory).load(tensors())
    assert loaded is not None
    assert loaded[1] == at(1_000_000)


def test_the_newest_of_many_of_one_step_is_taken(directory, monkeypatch):
    """As a kill leaves them that comes before those before are dropped."""
    monkeypatch.setattr(module, "_remove", lambda _: None)
    for number in range(12):
        ResumeCheckpoint(directory).save(tensors(number), at(20, str(number)))
        loaded = ResumeCheckpoint(directory).load(tensors())
        assert loaded is not None
        assert loaded[1].run_id == str(number)


FORMS: list[Any] = [
    {},
    [],
    None,
    "record",
    {"step": 12},
    {"started": 5},
    {"started": "then", "step": "12"},
    {"started": "then", "step": 12.5},
    {"started": "then", "step": -1},
    {"started": "then", "step": True},
    {"started": "then", "seconds": None},
    {"started": "then", "history": {"step": 1}},
    {"started": "then", "history": [{"step": "1"}]},
    {"started": "then", "samples": [5]},
    {"started": "then", "ended": 5},
    {"started": "then", "environment": {"threads": [1]}},
    {"started": "then", "unknown": 1},
]


@pytest.mark.parametrize("record", FORMS, ids=str)
def test_a_record_of_another_form_is_a_damaged_one(directory, capsys, record):
    """Its checksum is right: another version of the program wrote it."""
    ResumeCheckpoint(directory).save(tensors(12), at(12))
    path = directory / "step-000000000012"
    total = checksum([directory.name, record], path / TENSORS)
    (path / TRAINER_STATE).write_text(json.dumps({"checksum": total, "record": record}))
    assert ResumeCheckpoint(directory).load(tensors()) is None
    line, anew = capsys.readouterr().out.splitlines()
    assert "this saved state is damaged and is left out (its record has another form: " in line
    assert anew == "warning: no saved state is whole: this training starts anew"


def test_every_kill_while_it_is_removed_leaves_a_whole_state_or_none(directory, monkeypatch, capsys):
    """What deletes it stops after some files; what is left is no damaged state, and goes with the next training."""
    ResumeCheckpoint(directory).save(tensors(), RECORDED)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path, **_: next(path.rglob("*.json")).unlink())
        ResumeCheckpoint(directory).remove()
    assert ResumeCheckpoint(directory).load(tensors()) is None
    assert capsys.readouterr().out == ""
    assert len(names(directory.parent)) == 1, "what is left"
    with lock_checkpoint(directory.parent, directory.name):
        pass
    assert names(directory.parent) == ["key.lock"]


def test_what_is_left_of_a_state_that_a_newer_one_replaced_goes_with_the_next_start(directory, monkeypatch):
    ResumeCheckpoint(directory).save(tensors(1), at(1))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path, **_: None)
        ResumeCheckpoint(directory).save(tensors(2), at(2))
    assert len(names(directory)) == 2
    with lock_checkpoint(directory.parent, directory.name):
        assert names(directory) == ["step-000000000002"]


def test_a_half_written_state_is_ignored(directory):
    (directory / "part").mkdir(parents=True)
    (directory / "part" / TENSORS).write_bytes(b"half")
    assert ResumeCheckpoint(directory).load(tensors()) is None
    ResumeCheckpoint(directory).save(tensors(), RECORDED)
    assert names(directory) == ["step-000000000003"]


def test_it_can_be_removed(directory):
    ResumeCheckpoint(directory).save(tensors(), RECORDED)
    ResumeCheckpoint(directory).remove()
    assert ResumeCheckpoint(directory).load(tensors()) is None
    assert not directory.exists()
    ResumeCheckpoint(directory).remove()


HOLDER = """
import sys
from pathlib import Path
from tinystories.training.resume import lock_checkpoint

with lock_checkpoint(Path(sys.argv[1]), sys.argv[2]):
    print("holds it", flush=True)
    sys.stdin.readline()
    (Path(sys.argv[1]) / "done").touch()
"""


def holder(parent: Path, key: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLDER, str(parent), key]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_one_process_at_a_time_has_the_state_of_a_key(tmp_path, capsys):
    with holder(tmp_path, "one") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "holds it\n"
        with lock_checkpoint(tmp_path, "other"):
            assert first.poll() is None, "another key does not wait"
        assert capsys.readouterr().out == ""
        with holder(tmp_path, "one") as second:
            assert second.stdout is not None
            assert "runs already (key one); waiting" in second.stdout.readline()
            assert not (tmp_path / "done").exists()
            first.communicate("\n")
            assert second.stdout.readline() == "holds it\n"
            assert (tmp_path / "done").exists()
            second.communicate("\n")


def test_a_killed_process_leaves_no_lock(tmp_path):
    with holder(tmp_path, "one") as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.kill()
    with lock_checkpoint(tmp_path, "one") as saved:
        saved.save(tensors(), at(1))
        assert names(tmp_path / "one") == ["step-000000000001"]


def test_the_lock_goes_with_the_block_also_after_an_error(tmp_path, capsys):
    with pytest.raises(RuntimeError), lock_checkpoint(tmp_path, "one"):
        raise RuntimeError
    with lock_checkpoint(tmp_path, "one"):
        assert capsys.readouterr().out == "", "nothing to wait for"
