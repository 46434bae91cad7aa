"""Shared by the MLflow tests: the files of a small run, and queries of a store."""

import csv
import json

from tinystories.common import paths
from tinystories.tracking.async_logger import AsyncRunLogger
from tinystories.tracking.metrics import environment_tags
from tinystories.tracking.mlflow_store import tracking_uri

KEY = "1a2b3c4d" * 8
ENVIRONMENT = {"device": "cpu", "threads": 2, "compiled": False, "git_commit": "c0ffee" * 6 + "c0ff"}
HISTORY = [
    {"step": s, "tokens": s * 64, "loss": 9 - s / 20, "learning_rate": 0.02, "gradient_norm": 1.5,
     "tokens_per_second": 4000.0 + s, "seconds": s / 10}
    for s in range(10, 101, 10)
]  # fmt: skip
EPOCHS = [
    {"epoch": e, "train_loss": 6.5 / e, "train_ppl": 665.1, "valid_loss": 4.5 / e, "valid_ppl": 90.0,
     "valid_bits_per_byte": 1.4 / e, "step": 50 * e, "tokens": 3200 * e, "seconds": 5.0 * e}
    for e in (1, 2)
]  # fmt: skip
EVALUATION = {"valid_loss": 2.25, "valid_ppl": 9.49, "valid_bits_per_byte": 0.7, "valid_tokens": 1000}
SECRETS = ("hunter2", "t0ken", "somebody")


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def client_of(root):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri("", root))


def runs(client, experiment="tinystories"):
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def points(client, run_id, name):
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, name))


def artifacts(client, run_id, path=None):
    found: list[str] = []
    for file in client.list_artifacts(run_id, path):
        found += artifacts(client, run_id, file.path) if file.is_dir else [file.path]
    return sorted(found)


def stream(root, run_id=None, name=None, key=KEY, uri=None, params=None):
    return AsyncRunLogger(
        uri=uri or tracking_uri("", root), experiment="tinystories", root=root, key=key, run_id=run_id, name=name,
        params=params or {"train.batch_size": "32"}, tags=environment_tags(ENVIRONMENT),
    )  # fmt: skip


def change_run_file(**changes):
    paths.RUN.write_text(json.dumps({**json.loads(paths.RUN.read_text()), **changes}))


def assert_complete_and_single(client, run_id):
    """Every row of the files is in the run, once."""
    for column in ("loss", "learning_rate", "gradient_norm", "tokens_per_second"):
        assert points(client, run_id, f"train/{column}") == [(row["step"], row[column]) for row in HISTORY]
    for column in ("train_loss", "train_ppl", "valid_loss", "valid_ppl", "valid_bits_per_byte"):
        assert points(client, run_id, f"epoch/{column}") == [(row["step"], row[column]) for row in EPOCHS]
    for column in ("valid_loss", "valid_ppl", "valid_bits_per_byte"):
        assert points(client, run_id, f"final/{column}") == [(100, EVALUATION[column])]
