"""Log a training to MLflow from the background. Needs a free port for a server."""

import subprocess
import sys
import threading

import pytest

from tests.support.mlflow_runs import (
    EPOCHS,
    HISTORY,
    SECRETS,
    artifacts,
    assert_complete_and_single,
    change_run_file,
    client_of,
    log_rows,
    losses,
    points,
    runs,
    start_logger,
    wait_for,
    wait_for_rows,
)
from tinystories.common.errors import UserError
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking import async_logger
from tinystories.tracking.metrics import epoch_metrics, flat_params


def test_logger_run_is_completed_by_publish(root, files):
    logger = start_logger(root, name="brave-newt")
    log_rows(logger, HISTORY[:6])
    logger.log_metrics(EPOCHS[0].step, epoch_metrics(EPOCHS[0]))
    logger.log_text("samples/epoch_1.md", "a first draft")
    run_id = logger.close("FINISHED", timeout=60)

    client = client_of(root)
    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "brave-newt")
    assert run.data.tags["dvc.experiment"] == "brave-newt"
    assert points(client, run_id, "train/loss") == losses(HISTORY[:6])
    sample = root / "mlartifacts" / run_id / "artifacts" / "samples" / "epoch_1.md"
    assert sample.read_text() == "a first draft"

    change_run_file(run_id=run_id, name="brave-newt")
    assert publish(load_params(), root) == run_id
    assert len(runs(client)) == 1
    assert_complete_and_single(client, run_id)
    assert client.get_run(run_id).data.params["train.batch_size"] == "32"
    assert sample.read_text() == "Once upon a time"


@pytest.mark.parametrize("id_is_known", [True, False])
def test_logger_resumes_its_run_without_second_points(root, files, id_is_known):
    killed = start_logger(root)
    log_rows(killed, HISTORY[:6])
    client = client_of(root)
    wait_for_rows(killed, client, 6)
    assert client.get_run(killed.run_id).info.status == "RUNNING"

    resumed = start_logger(root, run_id=killed.run_id if id_is_known else None)
    log_rows(resumed, HISTORY[4:])
    assert resumed.close("KILLED", timeout=60) == killed.run_id
    assert client.get_run(killed.run_id).info.status == "KILLED"
    assert len(runs(client)) == 1
    assert points(client, killed.run_id, "train/loss") == losses(HISTORY)

    publish(load_params(), root)
    assert_complete_and_single(client, killed.run_id)
    assert client.get_run(killed.run_id).info.status == "FINISHED"


def test_logger_sets_an_ended_run_to_running(root):
    run_id = start_logger(root).close("KILLED", timeout=60)
    client = client_of(root)
    again = start_logger(root)
    wait_for(lambda: client.get_run(run_id).info.status == "RUNNING")
    assert again.close("FINISHED", timeout=60) == run_id


def test_logger_warns_once_of_a_useless_server(root, faulty_server, request, capsys):
    logger = start_logger(root, uri=faulty_server)
    for step in range(5000):
        logger.log_metrics(step, {"train/loss": 1.0})
    logger.log_text("samples/epoch_1.md", "x")
    asleep = "asleep" in request.node.name
    assert logger.close("FINISHED", timeout=0.5 if asleep else 60) is None
    logger.log_metrics(5001, {"train/loss": 1.0})
    assert logger.close("FINISHED", timeout=0.1) is None
    out, err = capsys.readouterr()
    assert out.count("warning: ") == 1 and out.count("\n") == 1
    assert "MLflow at http://127.0.0.1:" in out and "publish" in out
    assert ("not done within 0.5 s" in out) == asleep
    assert not any(secret in out + err for secret in SECRETS), out
    assert err == ""


def test_queue_is_bounded(root, faulty_server, monkeypatch, capsys):
    monkeypatch.setattr(async_logger, "MAX_QUEUED", 10)
    logger = start_logger(root, uri=faulty_server)
    for step in range(1000):
        logger.log_metrics(step, {"train/loss": 1.0})
    assert logger._queue.qsize() + len(logger._unsent) <= 20
    logger.close("FINISHED", timeout=0.1)
    assert capsys.readouterr().out.count("warning: ") == 1


@pytest.mark.parametrize(
    ("uri", "seconds", "wait"),
    [("http://127.0.0.1:9", 0.1, 1), ("http://127.0.0.1:9", 60, 3), ("http://127.0.0.1:9", 3600, 10), (None, 60, 10)],
)
def test_close_waits_for_5_percent_of_the_training(root, monkeypatch, uri, seconds, wait):
    def no_run(**known):
        raise UserError("nowhere")

    monkeypatch.setattr(async_logger, "open_run_to_log", no_run)
    logger = start_logger(root, uri=uri)
    logger._thread.join(60)
    waits: list[float] = []
    monkeypatch.setattr(logger._thread, "join", waits.append)
    logger._opened -= seconds
    logger.close("FINISHED")
    assert waits == [pytest.approx(wait, rel=0.2)]


def test_import_does_not_wait_for_mlflow():
    code = "import sys, tinystories.tracking.async_logger; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_logger_and_publish_write_to_a_server(root, files, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    logger = start_logger(root, uri=server, params=flat_params(load_params()))
    log_rows(logger, HISTORY[:6])
    logger.log_text("samples/epoch_1.md", "a first draft")
    run_id = logger.close("FINISHED", timeout=60)
    change_run_file(run_id=run_id)
    assert publish(load_params(), root) == publish(load_params(), root) == run_id

    from mlflow import MlflowClient

    client = MlflowClient(server)
    assert_complete_and_single(client, run_id)
    run = client.get_run(run_id)
    assert len(run.inputs.dataset_inputs) == 2 and run.data.params["mlflow.tracking_uri"] == ""
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert "checkpoint/model.safetensors" in artifacts(client, run_id)
    assert not (root / "mlartifacts").exists()


def test_logger_adds_the_load_of_the_machine(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    before = set(threading.enumerate())
    logger, client = start_logger(root), client_of(root)
    wait_for(lambda: logger.run_id and points(client, logger.run_id, "system/cpu_utilization_percentage"))
    run_id = logger.close("KILLED", timeout=60)
    count = len(points(client, run_id, "system/system_memory_usage_megabytes"))
    resumed = start_logger(root, run_id=run_id)
    wait_for(lambda: len(points(client, run_id, "system/system_memory_usage_megabytes")) > count)
    assert resumed.close("FINISHED", timeout=60) == run_id
    steps = [step for step, _ in points(client, run_id, "system/system_memory_usage_megabytes")]
    assert steps == list(range(len(steps)))
    started = set(threading.enumerate()) - before
    assert not [thread for thread in started if thread.name == "SystemMetricsMonitor"]
