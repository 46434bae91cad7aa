"""Small trainings of some epochs each, to compare one that continues a trunk with one from its first step."""

import shutil
from pathlib import Path
from typing import Any

from tests.support.train_results import delete_results
from tinystories.common import paths
from tinystories.common.artifacts import EpochIndex, EpochRow, HistoryRow
from tinystories.common.params import Params
from tinystories.training.trainer import train

Results = tuple[dict[str, bytes], list[dict[str, Any]], list[dict[str, Any]], list[int]]


def trunk_params(small_params: Params) -> Params:
    """Of three steps an epoch; the cooldown is the second half."""
    sample = small_params.sample.model_copy(update={"prompts": (), "max_new_tokens": 1})
    params = small_params.model_copy(update={"sample": sample})
    return changed(params, batch_size=64, steps_per_epoch=3, log_every=2, warmup_steps=2)


def changed(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update=changes)})


def read_results() -> Results:
    """All that a training writes, without what time decides."""
    weights = {str(path): path.read_bytes() for path in Path("models").rglob("*.safetensors")}
    history = [row.model_dump(exclude={"seconds", "tokens_per_second"}) for row in HistoryRow.read_table()]
    epochs = [row.model_dump(exclude={"seconds"}) for row in EpochRow.read_table()]
    return weights, history, epochs, EpochIndex.read().epochs


def run(params: Params) -> Results:
    delete_results(Path())
    shutil.rmtree("models", ignore_errors=True)
    train(params, None)
    return read_results()


def from_scratch(params: Params) -> Results:
    shutil.move(".state", "kept")
    results = run(params)
    shutil.rmtree(".state")
    shutil.move("kept", ".state")
    return results


def found() -> list[Path]:
    return sorted(path for path in paths.trunk_states().glob("*-*") if path.is_dir())
