"""Losses of short trainings against recorded ones. Needs nothing.

They change only with what a training computes: then say so in the commit, and renew them with
`OMP_NUM_THREADS=1 python -m tests.training.test_golden --renew`.
"""

import json
import sys
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.repository import PARAMS, ROOT
from tinystories.common.params import ModelConfig, Params
from tinystories.common.params_file import load_params
from tinystories.tokenization.token_files import TokenArray
from tinystories.training.backend import Backend
from tinystories.training.conditions import find_conditions
from tinystories.training.step import TrainStep

GOLDEN = ROOT / "tests/training/golden/cpu-fp32.json"
VOCAB_SIZE = 61
TOKENS = {
    "squares": np.arange(600, dtype=np.int64) ** 2 % VOCAB_SIZE,
    "random": np.random.default_rng(0).integers(0, VOCAB_SIZE, 3_000),
}
TRAIN: dict[str, dict[str, Any]] = {
    "squares": {"steps_per_epoch": 20, "warmup_steps": 0, "weight_decay": 0.0},
    "random": {"steps_per_epoch": 60, "warmup_steps": 12, "weight_decay": 0.2},
}


def train(name: str) -> tuple[dict[str, Any], list[float]]:
    """Return the machine's conditions and the loss of each step, eager, in fp32, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        backend = Backend(torch.device("cpu"), torch.float32, compiled=False)
        params, tokens = make_params(TRAIN[name]), TOKENS[name].astype(np.uint16)
        return dict(find_conditions(backend, params.model.head_size)), step_losses(params, tokens, backend)
    finally:
        torch.set_num_threads(threads)


def make_params(changes: dict[str, Any]) -> Params:
    """Return parameters that outlive a change of the committed ones."""
    params = load_params(PARAMS)
    train = params.train.model_copy(
        update={
            "batch_size": 4, "epochs": 1, "learning_rate": 0.02, "embedding_learning_rate": 0.004, "cooldown": 0.5,
            "gradient_clip": 1.0, **changes,
        }
    )  # fmt: skip
    model = ModelConfig(context_length=12, embedding_size=24, layers=3, heads=2)
    return params.model_copy(update={"model": model, "train": train, "seed": 5})


def step_losses(params: Params, tokens: TokenArray, backend: Backend) -> list[float]:
    train_step, losses = TrainStep(params, VOCAB_SIZE, tokens, backend), []
    train_step.initialize()
    for step in range(params.train.steps):
        train_step.step(step)
        losses.append(train_step.loss_sum.item())
        train_step.loss_sum.zero_()
    return losses


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("name", TOKENS)
def test_step_computes_the_golden_losses(name):
    """To the bit on a machine of the kind that recorded them."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    conditions, losses = train(name)
    if conditions == golden["conditions"]:
        assert losses == golden["losses"][name]
    else:
        assert losses == pytest.approx(golden["losses"][name], rel=1e-4)


if __name__ == "__main__" and sys.argv[1:] == ["--renew"]:
    trained = {name: train(name) for name in TOKENS}
    golden = {
        "conditions": trained["random"][0],
        "losses": {name: losses for name, (_, losses) in trained.items()},
    }
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
