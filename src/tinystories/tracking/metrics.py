"""Names and values of an MLflow run's metrics, parameters and tags.

A training logs them and `publish` sends what is missing: both take the names from here, so they agree.
"""

import json
from collections.abc import Mapping
from typing import Any

from tinystories.common.artifacts import EpochRow, Evaluation, HistoryRow, Parent
from tinystories.common.corpus_figures import CorpusFigures
from tinystories.common.params import Params
from tinystories.common.story_figures import StoryFigures
from tinystories.common.urls import redact

_HISTORY = ("tokens", "loss", "learning_rate", "gradient_norm", "tokens_per_second")
_EPOCH = ("train_loss", "train_ppl", "valid_loss", "valid_ppl", "valid_bits_per_byte")
_MODEL = ("valid_loss", "valid_bits_per_byte")
_CORPUS = ("overlap", "duplicates", "cut_stories", "mojibake")
_FINAL = ("valid_loss", "valid_ppl", "valid_bits_per_byte")


def history_metrics(row: HistoryRow) -> dict[str, float]:
    """The metrics of one row of history.csv: `train/loss` and so on, `valid/slice_loss` where it has that."""
    metrics = {f"train/{column}": getattr(row, column) for column in _HISTORY}
    return metrics if row.valid_slice_loss is None else {**metrics, "valid/slice_loss": row.valid_slice_loss}


def epoch_metrics(row: EpochRow) -> dict[str, float]:
    """The metrics of one row of epochs.csv: `epoch/train_loss` and so on."""
    return {f"epoch/{column}": getattr(row, column) for column in _EPOCH}


def model_metrics(row: EpochRow) -> dict[str, float]:
    """The metrics of the model after an epoch: `valid_loss` and so on.

    Their names are not those of `epoch_metrics`, because MLflow adds them to the run too, and a run has a point once.
    """
    return {column: getattr(row, column) for column in _MODEL}


def final_metrics(evaluation: Evaluation) -> dict[str, float]:
    """The metrics of evaluate.json: `final/valid_loss` and so on of the last epoch, `best_valid_loss` of the best."""
    best = {name: value for name, value in evaluation.model_dump().items() if name.startswith("best_")}
    return {f"final/{column}": getattr(evaluation, column) for column in _FINAL} | best


def corpus_metrics(figures: CorpusFigures) -> dict[str, float]:
    """The metrics of data.json: `data/overlap` and so on."""
    return {f"data/{column}": getattr(figures, column) for column in _CORPUS}


def story_metrics(figures: StoryFigures) -> dict[str, float]:
    """The metrics of stories.json: `stories/unprompted/ended` and so on, without those that it leaves out."""
    return {
        f"stories/{name}/{column}": value
        for name, group in figures.groups.items()
        for column, value in group.model_dump(exclude={"stories"}).items()
        if value is not None
    }


def flat_params(params: Params) -> dict[str, str]:
    """Flatten all parameters to dotted names (`train.batch_size`), without the credentials in an address.

    Numbers and words stay as params.yaml writes them, so MLflow shows them as DVC does: 30, not 30.0.
    """

    def flatten(prefix: str, value: Any, written: Any) -> dict[str, str]:
        if isinstance(value, dict):
            parts = (flatten(f"{prefix}.{key}", inner, written.get(key)) for key, inner in value.items())
            return {name: text for part in parts for name, text in part.items()}
        as_written = written if written == value else value  # 30 == 30.0
        text = as_written if isinstance(as_written, str) else json.dumps(as_written, ensure_ascii=False)
        return {prefix.removeprefix("."): redact(text)}

    values = params.model_dump()
    return flatten("", values, params.written or values)


def environment_tags(environment: Mapping[str, object]) -> dict[str, str]:
    """Tags that say what the training ran on, from run.json's `environment`."""
    # MLflow's own name for the commit, which its pages show as the run's source.
    names = {"git_commit": "mlflow.source.git.commit"}
    return {names.get(key, f"environment.{key}"): str(value) for key, value in environment.items() if value is not None}


def parent_tags(parent: Parent | None) -> dict[str, str]:
    """Tags that name the model that the training went on from."""
    return {"pipeline.parent": parent.init_from, "pipeline.parent_sha256": parent.sha256} if parent else {}
