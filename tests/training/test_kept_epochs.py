"""The best epoch's weights: kept where nothing shows that epoch, one of them, also after kills around a new best."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.train_results import delete_results, read_results
from tinystories.common import paths
from tinystories.common.artifacts import EpochIndex, EpochRow, Evaluation
from tinystories.common.params import Params
from tinystories.encoding.writer import write_meta, write_tokens
from tinystories.evaluation.evaluate import evaluate
from tinystories.model.checkpoint import load_checkpoint
from tinystories.model.gpt import GPT
from tinystories.training import resume, trainer
from tinystories.training.kept_epochs import best_epoch, keep_weights
from tinystories.training.resume import ResumeCheckpoint
from tinystories.training.rows import epoch_row
from tinystories.training.step import TrainStep
from tinystories.training.trainer import train


@pytest.fixture(autouse=True)
def here(workspace: Path) -> Path:
    return workspace


def changed(params: Params, **changes: Any) -> Params:
    """Only the samples of epochs 1, 2, 4, 5, 7 and 8 are shown of eight, not those of 3 and 6."""
    changes = {"epochs": 8, "steps_per_epoch": 1, "log_every": 1, "batch_size": 64, **changes}  # few batches validate
    changes["kept_trunks"] = 0  # else the third epoch's weights are kept for longer trainings
    sample = params.sample.model_copy(update={"max_new_tokens": 1})
    return params.model_copy(update={"train": params.train.model_copy(update=changes), "sample": sample})


@pytest.fixture
def validate_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], None]:
    """Say what the validation loss after each epoch is."""

    def say(losses: Sequence[float]) -> None:
        def row(params: Params, number: int, *rest: Any) -> EpochRow:
            return epoch_row(params, number, *rest).model_copy(update={"valid_loss": losses[number - 1]})

        monkeypatch.setattr("tinystories.training.trainer.epoch_row", row)

    return say


def kept_states() -> list[str]:
    (directory,) = Path(".state/train").glob("*/epochs")
    return sorted(path.name for path in directory.iterdir())


def test_best_epoch_of_equal_ones_is_the_last():
    row = EpochRow(
        epoch=1, train_loss=1, train_ppl=1, valid_loss=2, valid_ppl=1, valid_bits_per_byte=1, step=1, tokens=1,
        seconds=1,
    )  # fmt: skip
    rows = [row.model_copy(update={"epoch": n, "valid_loss": loss}) for n, loss in enumerate([3.0, 2.0, 2.0, 2.5], 1)]
    assert best_epoch(rows) == 3


def test_train_that_overfits_keeps_the_best_weights(small_params, no_run, monkeypatch, stories, tokenizer):
    train_file = write_tokens(["The park was happy."] * 20, tokenizer, paths.TOKENS_TRAIN, 1)
    write_meta(tokenizer, train_file, write_tokens(stories[20:], tokenizer, paths.TOKENS_VALID, 1))
    seen: list[Tensor] = []

    def note(model: GPT, *rest: Any) -> None:
        seen.append(model.qkv_proj.detach().clone())
        keep_weights(model, *rest)

    monkeypatch.setattr(trainer, "keep_weights", note)
    rates = {"learning_rate": 0.1, "embedding_learning_rate": 0.1, "cooldown": 0.1}
    params = changed(small_params, epochs=4, steps_per_epoch=8, **rates)
    train(params, None)
    rows = EpochRow.read_table()
    best = EpochIndex.read().best
    assert best == min(rows, key=lambda row: row.valid_loss).epoch < 5
    assert torch.equal(load_checkpoint(paths.BEST).qkv_proj, seen[best - 1])
    assert torch.equal(load_checkpoint(paths.CHECKPOINT).qkv_proj, seen[-1])
    evaluate(params)
    found = Evaluation.read()
    assert found.best_epoch == best
    assert found.best_valid_loss == pytest.approx(rows[best - 1].valid_loss, abs=1e-4)
    assert found.best_valid_loss < found.valid_loss == pytest.approx(rows[-1].valid_loss, abs=1e-4)


def test_train_whose_last_epoch_is_the_best_writes_it_twice(small_params, no_run, validate_as):
    validate_as([9, 8, 7, 6, 5, 4, 3, 3])
    train(changed(small_params), None)
    assert EpochIndex.read().model_dump() == {"epochs": [1, 2, 4, 5, 7, 8], "best": 8}
    files = sorted(path.name for path in paths.CHECKPOINT.iterdir())
    assert sorted(path.name for path in paths.BEST.iterdir()) == files
    assert all((paths.BEST / name).read_bytes() == (paths.CHECKPOINT / name).read_bytes() for name in files)
    assert kept_states() == ["epoch_1", "epoch_2", "epoch_4", "epoch_5", "epoch_7"]


class Killed(BaseException):
    pass


# What runs at each moment, and whether it is that of epoch 6.
MOMENTS: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "weights kept": (ResumeCheckpoint, "save", lambda _, tensors, state: len(state.epochs) == 6),
    "state saved": (resume, "_remove", lambda path: path.name == "epoch_3"),
    "all done": (TrainStep, "step", lambda _, number: number == 6),
}


def test_train_killed_around_a_new_best_epoch_ends_with_the_same_bytes(
    here, small_params, no_run, validate_as, monkeypatch, capsys
):
    """Epoch 6 takes the place of 3. Results that are written again have its weights, too."""
    validate_as([9, 8, 5, 6, 7, 4, 6, 6])
    params = changed(small_params)

    def results() -> dict[str, bytes]:
        return {name: data for name, data in read_results(here).items() if name.startswith(("models/b", "models/e"))}

    train(params, None)
    expected = results()
    assert EpochIndex.read().model_dump() == {"epochs": [1, 2, 4, 5, 7, 8], "best": 6}
    assert expected["models/best/model.safetensors"] != (paths.CHECKPOINT / "model.safetensors").read_bytes()
    for moment, (place, name, is_it) in MOMENTS.items():
        delete_results(here)
        shutil.rmtree(".state")
        call = getattr(place, name)

        def kill(*given: Any, is_it=is_it, call=call) -> Any:
            if is_it(*given):
                raise Killed
            return call(*given)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(place, name, kill)
            train(params, None)
        assert ("epoch_3" in kept_states()) == (moment != "all done") and "epoch_6" in kept_states(), moment
        capsys.readouterr()
        train(params, None)
        said = capsys.readouterr().out
        assert "Resuming from step 6" in said and "damaged" not in said, moment
        assert kept_states() == ["epoch_1", "epoch_2", "epoch_4", "epoch_5", "epoch_6", "epoch_7"]
        assert results() == expected, moment
    delete_results(here)
    train(params, None)
    assert results() == expected
