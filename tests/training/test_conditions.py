"""The conditions: found here, and taken over from a saved state. What they do to bits: test_one_key_one_result."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tinystories.training import conditions as module
from tinystories.training.backend import Backend
from tinystories.training.conditions import conditions_to_resume, find_conditions
from tinystories.training.resume import TRAINER_STATE, ResumeCheckpoint, TrainerState
from tinystories.training.run_key import training_key

FP32 = Backend(torch.device("cpu"), torch.float32, compiled=False)
HERE: dict[str, Any] = {"device": "cpu", "processor": "A", "threads": 2}


@pytest.fixture
def states(tmp_path: Path) -> Path:
    return tmp_path / "train"


def save(states: Path, key: str, training: str, conditions: dict[str, Any]) -> None:
    state = TrainerState(started="2026-01-01T00:00:00+00:00", training=training, conditions=conditions)
    ResumeCheckpoint(states / key).save({"weights": torch.ones(1)}, state)


@pytest.fixture
def no_omp_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("no_omp_num_threads")
def test_conditions_to_resume_without_a_saved_state(states, capsys):
    assert conditions_to_resume(states, "t", HERE) == HERE
    save(states, "k", "other", HERE | {"threads": 8})
    assert conditions_to_resume(states, "t", HERE) == HERE
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("no_omp_num_threads")
def test_conditions_to_resume_prefers_these_conditions(states, capsys):
    save(states, "here", "t", HERE)
    save(states, "newer", "t", HERE | {"threads": 8})
    assert conditions_to_resume(states, "t", HERE) == HERE
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("no_omp_num_threads")
def test_conditions_to_resume_takes_over_threads_alone(states, capsys):
    save(states, "k", "t", HERE | {"processor": "B", "threads": 8, "more": "x"})
    assert conditions_to_resume(states, "t", HERE) == HERE
    assert "is of processor B (here A), threads 8 (here 2), more x (here None)" in capsys.readouterr().out
    save(states, "l", "t", HERE | {"threads": 8})
    assert conditions_to_resume(states, "t", HERE) == HERE | {"threads": 8}


def test_conditions_to_resume_obeys_omp_num_threads(states, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    save(states, "k", "t", HERE | {"threads": 8})
    assert conditions_to_resume(states, "t", HERE) == HERE
    assert "is of threads 8 (here 2)" in capsys.readouterr().out


@pytest.mark.usefixtures("no_omp_num_threads")
def test_conditions_to_resume_ignores_an_unreadable_state(states):
    save(states, "k", "t", HERE | {"threads": 8})
    (states / "k" / "step-000000000000" / TRAINER_STATE).write_text("{}")
    (states / "empty").mkdir()
    assert conditions_to_resume(states, "t", HERE) == HERE


def test_find_conditions_are_all_in_the_key():
    found = find_conditions(FP32, 16)
    assert {"device", "precision", "compiled", "torch", "processor", "vector_units", "threads"} == found.keys()
    keys = {training_key("t", found)} | {training_key("t", {**found, name: "other"}) for name in found}
    assert len(keys) == 1 + len(found)


def test_find_conditions_names_compiler_and_kernels(monkeypatch):
    monkeypatch.setattr(module, "compile_kernels", lambda *_: False)
    found = find_conditions(Backend(torch.device("cpu"), torch.float32, compiled=True), 16)
    assert found["kernels"] is False
    assert found["compiler"]


def test_find_conditions_names_variables_of_math_libraries(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert find_conditions(FP32, 16)["ONEDNN_MAX_CPU_ISA"] == "AVX2"
