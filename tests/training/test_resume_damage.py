"""Damaged saved states, and those of another training, model or version: skipped with one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.saved_states import ROW, at, same, tensors
from tests.support.wrong_inputs import flip_a_bit
from tinystories.common.files import checksum, sha256_of
from tinystories.model.checkpoint import save_checkpoint
from tinystories.training.resume import TENSORS, TRAINER_STATE, ResumeCheckpoint


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "key"


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
    elif how == "another number in the trainer state":
        (path / TRAINER_STATE).write_text((path / TRAINER_STATE).read_text().replace('"step": 12', '"step": 13'))
    elif how == "not a number in the trainer state":
        (path / TRAINER_STATE).write_text((path / TRAINER_STATE).read_text().replace('"step": 12', '"step": NaN'))
    elif how == "trainer state of the older":
        shutil.copy(path.parent.with_name("older") / "key" / "step-000000000007" / TRAINER_STATE, path / TRAINER_STATE)
    elif how == "a version without a checksum of the trainer state":
        (path / TRAINER_STATE).write_text(json.dumps({"sha256": sha256_of(path / TENSORS), "state": {"step": 12}}))
    elif how == "a file in its place":
        shutil.rmtree(path)
        path.write_text("")
    elif how == "no tensors":
        (path / TENSORS).unlink()
    elif how == "no trainer state":
        (path / TRAINER_STATE).unlink()
    else:
        (path / TRAINER_STATE).write_text(how)


DAMAGES = [
    "cut",
    "longer",
    "one bit",
    "one bit of the header",
    "other tensors",
    "another number in the trainer state",
    "not a number in the trainer state",
    "trainer state of the older",
    "a version without a checksum of the trainer state",
    "a file in its place",
    "no tensors",
    "no trainer state",
    "",
    "{",
    "[]",
    "{}",
    '{"checksum": ""}',
    '{"checksum": null, "state": {}}',
    '{"state": ' + "[" * 10_000,
]


@pytest.mark.parametrize("how", DAMAGES)
def test_load_skips_a_damaged_state_with_a_warning(directory, capsys, how):
    """Then the state before is taken, which a kill between rename and removal leaves."""
    older = directory.with_name("older") / directory.name
    ResumeCheckpoint(older).save(tensors(7), at(7))
    ResumeCheckpoint(directory).save(tensors(12), at(12))
    damage(directory / "step-000000000012", how)
    assert ResumeCheckpoint(directory).load(tensors()) is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("warning: ")
    assert "step-000000000012: this saved state is damaged" in lines[0]
    assert lines[1] == "warning: no saved state is intact: this training starts over"

    (older / "step-000000000007").rename(directory / "step-000000000007")
    loaded = ResumeCheckpoint(directory).load(tensors())
    assert loaded is not None
    assert same(loaded[0], tensors(7))
    assert loaded[1] == at(7)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", ""])
def test_load_skips_a_state_whose_kept_weights_are_damaged(directory, capsys, random_model, tokenizer_file, name):
    """Then the state before them is taken, which needs none."""
    saved = ResumeCheckpoint(directory)
    saved.save(tensors(7), at(7))
    (directory / "step-000000000007").rename(directory / "before")
    save_checkpoint(random_model(), tokenizer_file, saved.epoch(1))
    saved.save(tensors(12), at(12).model_copy(update={"kept_epochs": [1]}))
    (directory / "before").rename(directory / "step-000000000007")
    loaded = saved.load(tensors())
    assert loaded is not None and loaded[1].step == 12
    if name:
        flip_a_bit(saved.epoch(1) / name)
    else:
        shutil.rmtree(saved.epoch(1))
    loaded = saved.load(tensors())
    assert loaded is not None and loaded[1] == at(7)
    (line,) = capsys.readouterr().out.splitlines()
    assert "step-000000000012: this saved state is damaged and is skipped (" in line and "epochs/epoch_1" in line


def test_load_notices_every_flipped_bit(directory):
    ResumeCheckpoint(directory).save(tensors(12), at(12))
    for name in (TENSORS, TRAINER_STATE):
        path = directory / "step-000000000012" / name
        data = path.read_bytes()
        for place in range(0, len(data), 7):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
            loaded = ResumeCheckpoint(directory).load(tensors())
            # The same JSON in another layout is as good.
            assert loaded is None or (same(loaded[0], tensors(12)) and loaded[1] == at(12))
        path.write_bytes(data)
    assert ResumeCheckpoint(directory).load(tensors()) is not None


def test_load_skips_the_state_of_another_training(directory, capsys):
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
def test_load_skips_the_state_of_another_model(directory, capsys, expected):
    ResumeCheckpoint(directory).save(tensors(3), at(3))
    assert ResumeCheckpoint(directory).load(expected) is None
    assert "its tensors are of another model" in capsys.readouterr().out


FORMS: list[Any] = [
    {},
    [],
    None,
    "state",
    {"step": 12},
    {"started": 5},
    {"started": "then", "step": "12"},
    {"started": "then", "step": 12.5},
    {"started": "then", "step": -1},
    {"started": "then", "step": True},
    {"started": "then", "seconds": None},
    {"started": "then", "history": {"step": 1}},
    {"started": "then", "history": [{"step": "1"}]},
    {"started": "then", "history": [ROW.model_dump() | {"step": "1"}]},
    {"started": "then", "history": [ROW.model_dump() | {"loss": -1.0}]},
    {"started": "then", "kept_epochs": ["5"]},
    {"started": "then", "ended": 5},
    {"started": "then", "environment": {"threads": [1]}},
    {"started": "then", "unknown": 1},
]


@pytest.mark.parametrize("values", FORMS, ids=str)
def test_load_skips_a_trainer_state_of_another_form(directory, capsys, values):
    """Its checksum is right: written by another version of the program."""
    ResumeCheckpoint(directory).save(tensors(12), at(12))
    path = directory / "step-000000000012"
    total = checksum([directory.name, values], path / TENSORS)
    (path / TRAINER_STATE).write_text(json.dumps({"checksum": total, "state": values}))
    assert ResumeCheckpoint(directory).load(tensors()) is None
    line, over = capsys.readouterr().out.splitlines()
    assert "this saved state is damaged and is skipped (its trainer state has another form: " in line
    assert over == "warning: no saved state is intact: this training starts over"
