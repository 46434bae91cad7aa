"""A training that goes on from another model: its first losses, its key, its resuming, and its record."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.small_training import NoRun
from tests.support.train_results import delete_results
from tinystories.common import paths
from tinystories.common.artifacts import HistoryRow, Parent, ParentRecord, Run, TokenMeta
from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.common.params import Params
from tinystories.inference.loss_eval import evaluate_loss
from tinystories.model.checkpoint import load_checkpoint, save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import open_tokens
from tinystories.training import trainer as module
from tinystories.training.batches import WindowSampler
from tinystories.training.step import TrainStep
from tinystories.training.trainer import train

PLACE = "data/own/parent/model"


@pytest.fixture(autouse=True)
def here(workspace: Path) -> Path:
    return workspace


@pytest.fixture
def params(small_params: Params) -> Params:
    changes = {"save_every": 1e-9, "log_every": 1, "init_from": PLACE}
    section = small_params.tokenizer.model_copy(update={"vocab_size": 300})
    train = small_params.train.model_copy(update=changes)
    return small_params.model_copy(update={"train": train, "tokenizer": section})


@pytest.fixture
def take_over(random_model: Callable[..., GPT]) -> Callable[[int], None]:
    def make(seed: int, place: str = PLACE) -> None:
        """Write what the stage train_tokenizer leaves of a parent: other weights for each seed."""
        save_checkpoint(random_model(seed=seed), paths.TOKENIZER, paths.PARENT)
        digest = sha256_of(paths.PARENT / "model.safetensors")
        ParentRecord(parent=Parent(init_from=place, sha256=digest)).write()

    return make


def key() -> str:
    return Run.read().key


def test_train_begins_with_the_parents_losses(params, no_run, take_over, capsys):
    take_over(1)
    parent = load_checkpoint(paths.PARENT)
    train(params, None)
    meta = TokenMeta.read()
    tokens = [open_tokens(path, split, 300) for path, split in
              ((paths.TOKENS_TRAIN, meta.train), (paths.TOKENS_VALID, meta.valid))]  # fmt: skip
    context, batch = params.model.context_length, params.train.batch_size
    windows = torch.from_numpy(WindowSampler(tokens[0], context, batch, params.seed).batches(0, 1)[0].astype(np.int64))
    first = parent.loss(windows[:, :-1], windows[:, 1:]).item()
    assert HistoryRow.read_table()[0].loss == pytest.approx(first, abs=2e-6)
    before = evaluate_loss(parent.inference_copy(), tokens[1], meta.valid.bytes, 2 * batch).loss
    said = capsys.readouterr().out
    assert f"Going on from {PLACE}: before training, valid loss {before:.4f} (PPL" in said
    assert before == pytest.approx(first, rel=0.2) and abs(before - np.log(300)) > 0.3, "not one of random weights"


def test_train_names_the_parent(params, no_run, take_over, monkeypatch):
    take_over(1)
    known: dict[str, Any] = {}

    class Tagged(NoRun):
        ended: list[str] = []  # noqa: RUF012

        def __init__(self, **arguments: object) -> None:
            known.update(arguments)

    monkeypatch.setattr(module, "AsyncRunLogger", Tagged)
    train(params, None)
    digest = sha256_of(paths.PARENT / "model.safetensors")
    assert json.loads(paths.RUN.read_text())["parent"] == {"init_from": PLACE, "sha256": digest}
    assert known["tags"]["pipeline.parent"] == PLACE and known["tags"]["pipeline.parent_sha256"] == digest


def test_train_resumes_without_the_parents_weights(here, params, no_run, take_over, monkeypatch, capsys):
    take_over(1)
    train(params, None)
    weights = (paths.CHECKPOINT / "model.safetensors").read_bytes()
    delete_results(here)
    shutil.rmtree(".state")
    step = TrainStep.step

    def fail(train_step: TrainStep, number: int) -> None:
        if number == 13:
            raise UserError("stopped here")
        step(train_step, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", fail)
        with pytest.raises(UserError, match="stopped here"):
            train(params, None)
    (paths.PARENT / "model.safetensors").unlink()
    capsys.readouterr()
    train(params, None)
    said = capsys.readouterr().out
    assert "Resuming from step 13" in said and "Going on from" not in said
    assert (paths.CHECKPOINT / "model.safetensors").read_bytes() == weights


def test_training_key_has_the_weights_not_their_place(params, no_run, take_over, small_params):
    keys = []
    for seed, place in ((1, PLACE), (1, "models:/a@best"), (2, PLACE)):
        take_over(seed, place)
        train(params.model_copy(update={"train": params.train.model_copy(update={"init_from": place})}), None)
        keys.append(key())
    ParentRecord(parent=None).write()
    train(params.model_copy(update={"train": params.train.model_copy(update={"init_from": ""})}), None)
    assert keys[0] == keys[1] and len({*keys, key()}) == 3


def test_train_refuses_another_parent(params, no_run, take_over):
    take_over(1)
    other = params.model_copy(update={"train": params.train.model_copy(update={"init_from": ""})})
    with pytest.raises(UserError, match=r"record.json: not of what train.init_from is, ''; run the stage that writes"):
        train(other, None)
    wider = params.model_copy(update={"model": params.model.model_copy(update={"layers": 5})})
    with pytest.raises(UserError, match=r"model.layers is 5 and its own 3; run: dvc exp run -S model.layers=3$"):
        train(wider, None)
    path = paths.PARENT / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=re.escape(f"{path}: altered since train wrote it")):
        train(params, None)
    assert no_run.ended == []
