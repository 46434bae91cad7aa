"""What the MLflow tests share: the files of a small run, a logger, and how they look into a store."""

import subprocess
import sys
import time
from collections.abc import Callable

from tests.support.report_files import CORPUS, REAL
from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, Evaluation, HistoryRow, Run, TrainMetrics
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking.async_logger import AsyncRunLogger
from tinystories.tracking.metrics import environment_tags, epoch_metrics, history_metrics
from tinystories.tracking.mlflow_store import tracking_uri

KEY = "1a2b3c4d" * 8
ENVIRONMENT = {
    "device": "cpu", "device_name": "EPYC", "precision": "fp32", "compiled": False, "torch": "2.13.0", "python": "3.11",
    "platform": "Linux", "threads": 2, "git_commit": "c0ffee" * 6 + "c0ff", "vector_units": "avx2",
}  # fmt: skip
HISTORY = [
    HistoryRow(step=s, tokens=s * 64, loss=9 - s / 20, valid_slice_loss=None if s % 40 else 9.5 - s / 20,
               learning_rate=0.02, gradient_norm=1.5,
               tokens_per_second=4000.0 + s, seconds=s / 10)
    for s in range(10, 101, 10)
]  # fmt: skip
EPOCHS = [
    EpochRow(epoch=e, train_loss=6.5 / e, train_ppl=665.1, valid_loss=4.5 / e, valid_ppl=90.0,
             valid_bits_per_byte=1.4 / e, step=50 * e, tokens=3200 * e, seconds=5.0 * e)
    for e in (1, 2)
]  # fmt: skip
EVALUATION = Evaluation(
    valid_loss=2.25, valid_ppl=9.49, valid_bits_per_byte=0.7, valid_tokens=1000,
    best_epoch=2, best_valid_loss=2.25, best_valid_ppl=9.49, best_valid_bits_per_byte=0.7,
)  # fmt: skip
TRAIN_METRICS = TrainMetrics(
    train_loss=3.25, train_ppl=665.1, steps=100, tokens=6400,
    parameters=10_000, tokens_per_second=4050.0, startup_seconds=1.0, seconds=10.0,
)  # fmt: skip
SECRETS = ("hunter2", "t0ken", "somebody")


def client_of(root):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri("", root))


def runs(client, experiment="tinystories"):
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def points(client, run_id, name):
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, name))


def losses(rows):
    """What `points` gives for `train/loss` once these rows are logged."""
    return [(row.step, row.loss) for row in rows]


def artifacts(client, run_id, path=None):
    found: list[str] = []
    for file in client.list_artifacts(run_id, path):
        found += artifacts(client, run_id, file.path) if file.is_dir else [file.path]
    return sorted(found)


def start_logger(root, run_id=None, name=None, key=KEY, uri=None, params=None):
    return AsyncRunLogger(
        uri=uri or tracking_uri("", root), experiment="tinystories", root=root, key=key, run_id=run_id, name=name,
        params=params or {"train.batch_size": "32"}, tags=environment_tags(ENVIRONMENT),
    )  # fmt: skip


def log_rows(logger, rows):
    for row in rows:
        logger.log_metrics(row.step, history_metrics(row))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_rows(logger, client, count):
    """Until this many rows of the history are in the logger's run."""
    wait_for(lambda: logger.run_id and len(points(client, logger.run_id, "train/tokens_per_second")) == count)


def log_first_half(logger, client):
    """Log the first five rows, and wait until they are there."""
    log_rows(logger, HISTORY[:5])
    wait_for_rows(logger, client, 5)


def log_second_half(logger):
    log_rows(logger, HISTORY[5:])
    for row in EPOCHS:
        logger.log_metrics(row.step, epoch_metrics(row))
    logger.log_text("samples/epoch_1.md", "a first draft")


def change_run_file(**changes):
    Run.read().model_copy(update=changes).write()


def assert_complete_and_single(client, run_id):
    """Every row of the files is in the run, once."""
    for column in ("tokens", "loss", "learning_rate", "gradient_norm", "tokens_per_second"):
        assert points(client, run_id, f"train/{column}") == [(row.step, getattr(row, column)) for row in HISTORY]
    slice_losses = [(row.step, row.valid_slice_loss) for row in HISTORY if row.step % 40 == 0]
    assert points(client, run_id, "valid/slice_loss") == slice_losses
    for column in ("train_loss", "train_ppl", "valid_loss", "valid_ppl", "valid_bits_per_byte"):
        assert points(client, run_id, f"epoch/{column}") == [(row.step, getattr(row, column)) for row in EPOCHS]
    for column in ("valid_loss", "valid_ppl", "valid_bits_per_byte"):
        assert points(client, run_id, f"final/{column}") == [(100, getattr(EVALUATION, column))]
        assert points(client, run_id, f"best_{column}") == [(100, getattr(EVALUATION, f"best_{column}"))]
    assert points(client, run_id, "best_epoch") == [(100, 2)]
    for column in ("overlap", "duplicates", "cut_stories", "mojibake"):
        assert points(client, run_id, f"data/{column}") == [(100, getattr(CORPUS, column))]
    assert points(client, run_id, "stories/real/distinct_3") == [(100, REAL.distinct_3)]
    assert points(client, run_id, "stories/real/names_kept") == []


def assert_one_warning(capsys, words):
    out, err = capsys.readouterr()
    assert out.count("warning: ") == 1 and out.count("\n") == 1 and words in out, out
    assert err == ""


def change_params(old: str, new: str) -> None:
    text = paths.PARAMS.read_text(encoding="utf-8")
    assert text.count(old) == 1
    paths.PARAMS.write_text(text.replace(old, new), encoding="utf-8")


def publish_and_check(client, root, key, run_id):
    """Publish the run of this id, and find it complete and the only one of its key. Returns its id."""
    change_run_file(run_id=run_id)
    published = publish(load_params(), root)
    assert_complete_and_single(client, published)
    assert client.get_run(published).info.status == "FINISHED"
    assert [run.info.run_id for run in runs(client) if run.data.tags["pipeline.key"] == key] == [published]
    return published


PUBLISH = """
import sys
from pathlib import Path
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
publish(load_params(), Path(sys.argv[1]))
"""


def publish_in_a_process(root, **options):
    """As the stage does it: MLflow remembers for as long as its process lives where a run's files are."""
    command = [sys.executable, "-c", PUBLISH, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout
