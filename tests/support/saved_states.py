"""States of trainings as tests save them: small tensors of many kinds, and trainer states."""

import os
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tinystories.common.artifacts import HistoryRow
from tinystories.training.resume import TrainerState, lock_checkpoint
from tinystories.training.retention import saved_trainings

ROW = HistoryRow(
    step=1, tokens=128, loss=2.0, learning_rate=1e-05, gradient_norm=0.1, tokens_per_second=4096.0, seconds=0.0
)
STATE = TrainerState(
    started="2026-11-27T17:00:00+00:00",
    environment={"threads": 2, "compiled": True, "git_commit": None, "device_name": "Zoë 🐉\n"},
    step=3,
    seconds=0.1 + 0.2,
    history=[ROW],
)


def tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weights": torch.randn(5, 7, generator=generator),
        "transposed": torch.randn(5, 7, generator=generator).T,
        "rounded": torch.randn(9, generator=generator).bfloat16(),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "sum": torch.tensor(1.25),
    }


def at(step: int, run_id: str | None = None) -> TrainerState:
    return TrainerState(started="then", step=step, run_id=run_id)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype
        and found[name].shape == tensor.shape
        and found[name].contiguous().view(torch.uint8).equal(tensor.contiguous().view(torch.uint8))
        if tensor.ndim
        else torch.equal(found[name], tensor)
        for name, tensor in expected.items()
    )


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def save_one(parent: Path, key: str, age: int, ended: str | None = "now", numbers: int = 1000) -> None:
    """Save the state of one training, of about 4 bytes a number, `age` seconds ago."""
    with lock_checkpoint(parent, key) as checkpoint:
        checkpoint.save({"weights": torch.zeros(numbers)}, TrainerState(started="then", ended=ended, step=1234))
    for path in (parent / key).rglob("*"):
        os.utime(path, (time.time() - age,) * 2)


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the states are of a repository in `tmp_path`."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path / ".state/train"


def keys(parent: Path) -> list[str]:
    return [saved.key for saved in saved_trainings(parent)]
