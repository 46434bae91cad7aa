"""What a run is told in MLflow: the names of metrics, parameters and tags.

A training streams them and `publish` sends them again: both take their names from here, so they agree.
"""

import json
from collections.abc import Mapping
from typing import Any

from tinystories.common.params import Params
from tinystories.common.urls import redact

_HISTORY = ("loss", "learning_rate", "gradient_norm", "tokens_per_second")
_EPOCH = ("train_loss", "train_ppl", "valid_loss", "valid_ppl", "valid_bits_per_byte")
_FINAL = ("valid_loss", "valid_ppl", "valid_bits_per_byte")

Row = Mapping[str, Any]  # of a CSV (text) or of the training loop (numbers)


def history_metrics(row: Row) -> dict[str, float]:
    """The metrics of one row of history.csv: `train/loss` and so on."""
    return {f"train/{column}": float(row[column]) for column in _HISTORY}


def epoch_metrics(row: Row) -> dict[str, float]:
    """The metrics of one row of epochs.csv: `epoch/train_loss` and so on."""
    return {f"epoch/{column}": float(row[column]) for column in _EPOCH}


def final_metrics(evaluation: Row) -> dict[str, float]:
    """The metrics of evaluate.json: `final/valid_loss` and so on."""
    return {f"final/{column}": float(evaluation[column]) for column in _FINAL}


def flat_params(params: Params) -> dict[str, str]:
    """All parameters by dotted name (`train.batch_size`), without the credentials that an address may hold.

    Numbers and words as params.yaml writes them, so that they read in MLflow as they do in DVC: 30, not 30.0.
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
    # MLflow's own name for the commit: its pages show it as the run's source.
    names = {"git_commit": "mlflow.source.git.commit"}
    return {names.get(key, f"environment.{key}"): str(value) for key, value in environment.items() if value is not None}
