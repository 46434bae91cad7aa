"""The MLflow run of a training while it trains, and where it is kept."""

import subprocess
import sys
import time

import pytest

from tests.support.mlflow_record import (
    EPOCHS,
    HISTORY,
    SECRETS,
    artifacts,
    assert_complete_and_single,
    change_run_file,
    client_of,
    points,
    runs,
    stream,
)
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking.metrics import epoch_metrics, flat_params, history_metrics


def test_a_streamed_run_is_completed_by_publish(root, files):
    live = stream(root, name="brave-newt")
    for row in HISTORY[:6]:
        live.log(row["step"], history_metrics(row))
    live.log(EPOCHS[0]["step"], epoch_metrics(EPOCHS[0]))
    live.text("samples/epoch_1.md", "a first draft")
    run_id = live.close("FINISHED", timeout=60)

    client = client_of(root)
    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "brave-newt")
    assert run.data.tags["dvc.experiment"] == "brave-newt"
    assert points(client, run_id, "train/loss") == [(row["step"], row["loss"]) for row in HISTORY[:6]]
    sample = root / "mlartifacts" / run_id / "artifacts" / "samples" / "epoch_1.md"
    assert sample.read_text() == "a first draft"

    change_run_file(run_id=run_id, name="brave-newt")
    assert publish(load_params(), root) == run_id
    assert len(runs(client)) == 1
    assert_complete_and_single(client, run_id)
    assert client.get_run(run_id).data.params["train.batch_size"] == "32"
    assert sample.read_text() == "Once upon a time"


@pytest.mark.parametrize("id_is_known", [True, False])
def test_a_resumed_stream_goes_on_in_the_same_run_without_second_points(root, files, id_is_known):
    killed = stream(root)
    for row in HISTORY[:6]:
        killed.log(row["step"], history_metrics(row))
    client = client_of(root)
    deadline = time.monotonic() + 60
    while killed.run_id is None or len(points(client, killed.run_id, "train/gradient_norm")) < 6:
        assert time.monotonic() < deadline, "the first stream never arrived"
        time.sleep(0.02)
    assert client.get_run(killed.run_id).info.status == "RUNNING"

    resumed = stream(root, run_id=killed.run_id if id_is_known else None)
    for row in HISTORY[4:]:
        resumed.log(row["step"], history_metrics(row))
    assert resumed.close("KILLED", timeout=60) == killed.run_id
    assert client.get_run(killed.run_id).info.status == "KILLED"
    assert len(runs(client)) == 1
    assert points(client, killed.run_id, "train/loss") == [(row["step"], row["loss"]) for row in HISTORY]

    publish(load_params(), root)
    assert_complete_and_single(client, killed.run_id)
    assert client.get_run(killed.run_id).info.status == "FINISHED"


def test_an_ended_run_is_shown_as_running_again(root):
    run_id = stream(root).close("KILLED", timeout=60)
    client = client_of(root)
    again = stream(root)
    deadline = time.monotonic() + 60
    while client.get_run(run_id).info.status != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert again.close("FINISHED", timeout=60) == run_id


def test_training_goes_on_and_is_told_once_when_the_server_is_of_no_use(root, bad_server, request, capsys):
    live = stream(root, uri=bad_server)
    for step in range(5000):
        live.log(step, {"train/loss": 1.0})
    live.text("samples/epoch_1.md", "x")
    asleep = "asleep" in request.node.name
    assert live.close("FINISHED", timeout=0.5 if asleep else 60) is None
    live.log(5001, {"train/loss": 1.0})
    assert live.close("FINISHED", timeout=0.1) is None
    out, err = capsys.readouterr()
    assert out.count("warning: ") == 1 and out.count("\n") == 1
    assert "MLflow at http://127.0.0.1:" in out and "publish" in out
    assert ("not done within 0.5 s" in out) == asleep
    assert not any(secret in out + err for secret in SECRETS), out
    assert err == ""


def test_importing_it_does_not_wait_for_mlflow():
    code = "import sys, tinystories.live_run; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_server_gets_the_same_record(root, files, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    live = stream(root, uri=server, params=flat_params(load_params()))
    for row in HISTORY[:6]:
        live.log(row["step"], history_metrics(row))
    live.text("samples/epoch_1.md", "a first draft")
    run_id = live.close("FINISHED", timeout=60)
    change_run_file(run_id=run_id)
    assert publish(load_params(), root) == publish(load_params(), root) == run_id

    from mlflow import MlflowClient

    client = MlflowClient(server)
    assert_complete_and_single(client, run_id)
    run = client.get_run(run_id)
    assert len(run.inputs.dataset_inputs) == 2 and run.data.params["data.files.train"] == ""
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert "checkpoint/model.safetensors" in artifacts(client, run_id)
    assert not (root / "mlartifacts").exists()
