"""`publish` brings the MLflow run level with the files."""

import json
import shutil

import pytest
import yaml

from tests.support.mlflow_runs import (
    ENVIRONMENT,
    EPOCHS,
    HISTORY,
    KEY,
    SECRETS,
    artifacts,
    assert_complete_and_single,
    change_run_file,
    client_of,
    runs,
    start_logger,
)
from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking.mlflow_store import tracking_uri


def test_publish_creates_the_whole_run(root, files):
    run_id = publish(load_params(), root)

    client = client_of(root)
    run = client.get_run(run_id)
    assert_complete_and_single(client, run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "train-1a2b3c4d")
    assert run.info.end_time - run.info.start_time == 12_000
    times = [metric.timestamp - run.info.start_time for metric in client.get_metric_history(run_id, "train/loss")]
    assert times == [row.seconds * 1000 for row in HISTORY]
    assert run.data.params["model.embedding_size"] == "256"
    assert json.loads(run.data.params["sample.prompts"])[2] == "The old dragon was sad because"
    assert run.data.tags["pipeline.key"] == KEY
    assert run.data.tags["mlflow.note.content"] == "**The run**\n\nIt went well.\n"  # no heading: MLflow overprints it
    assert run.data.tags["mlflow.source.git.commit"] == ENVIRONMENT["git_commit"]
    assert run.data.tags["environment.device"] == "cpu"
    assert run.data.tags["pipeline.parent"] == "models:/tinystories@champion"
    assert run.data.tags["pipeline.parent_sha256"] == "c" * 64
    assert artifacts(client, run_id) == [
        "checkpoint/README.md", "checkpoint/config.json", "checkpoint/model.safetensors", "data.json", "epochs.csv",
        "epochs.json", "evaluate.json", "history.csv", "params.yaml", "plot.png", "report.html", "report.md",
        "samples/epoch_1.md", "samples/final.md", "stories.json", "train.json",
    ]  # fmt: skip
    assert (root / "mlartifacts" / run_id / "artifacts" / "samples" / "final.md").read_text() == "The end"
    logged = root / "mlartifacts" / run_id / "artifacts" / "report.html"
    assert logged.read_bytes() == paths.REPORT_HTML.read_bytes() == b"<p>It went well.</p>\n"
    assert client.get_experiment(run.info.experiment_id).artifact_location == (root / "mlartifacts").as_uri()
    named = {
        item.tags[0].value: (item.dataset.name, item.dataset.digest, json.loads(item.dataset.profile)["stories"])
        for item in run.inputs.dataset_inputs
    }
    assert named == {"training": ("embedded", "a" * 16, 3), "validation": ("embedded", "b" * 16, 3)}
    receipt = json.loads(paths.RECEIPT.read_text())
    assert receipt == {"experiment": "tinystories", "key": KEY}  # the same in every store
    assert not (files / "mlruns").exists() and not (files / "mlflow.db").exists()


def test_publish_writes_what_mlflow_reads(root, files, monkeypatch):
    import mlflow.data

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri("", root))  # load_table looks there
    run_id = publish(load_params(), root)

    client = client_of(root)
    run = client.get_run(run_id)
    table = client.load_table(run.info.experiment_id, "epochs.json", run_ids=[run_id])
    assert table.to_dict("records") == [pytest.approx(row.model_dump()) for row in EPOCHS]
    source = mlflow.data.get_source(run.inputs.dataset_inputs[0].dataset)
    assert source.to_dict() == {"tags": {"generator": "v1"}}


def test_publish_again_sends_only_changes(root, files):
    first = publish(load_params(), root)
    paths.REPORT.write_text("# Better told\n")
    second = publish(load_params(), root)

    client = client_of(root)
    assert second == first and len(runs(client)) == 1
    assert_complete_and_single(client, first)
    assert len(client.get_run(first).inputs.dataset_inputs) == 2
    table = root / "mlartifacts" / first / "artifacts" / "epochs.json"
    assert len(json.loads(table.read_text())["data"]) == len(EPOCHS)
    assert (table.parent / "report.md").read_text() == "# Better told\n"
    assert client.get_run(first).data.tags["mlflow.note.content"] == "**Better told**\n"


def test_publish_finds_a_run_by_key(root, files):
    first = publish(load_params(), root)
    change_run_file(run_id="0" * 32)
    assert publish(load_params(), root) == first


def test_publish_recreates_a_run_that_is_gone(root, files, tmp_path, fresh_database):
    first = publish(load_params(), root)
    change_run_file(run_id=first)
    client = client_of(root)
    client.delete_run(first)
    second = publish(load_params(), root)
    assert second != first
    assert_complete_and_single(client, second)

    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copy(fresh_database, clone / "mlflow.db")
    third = publish(load_params(), clone)
    assert_complete_and_single(client_of(clone), third)


def test_publish_creates_a_run_for_each_key_and_experiment(root, files):
    first = publish(load_params(), root)
    change_run_file(run_id=first)
    values = yaml.safe_load(paths.PARAMS.read_text())
    values["mlflow"]["experiment"] = "elsewhere"
    assert publish(Params.model_validate(values), root) != first
    change_run_file(run_id=None, key="f" * 64)
    assert publish(load_params(), root) != first
    client = client_of(root)
    assert (len(runs(client)), len(runs(client, "elsewhere"))) == (2, 1)


def test_publish_names_a_deleted_experiment(root, files, capsys):
    publish(load_params(), root)
    client = client_of(root)
    number = client.get_experiment_by_name("tinystories").experiment_id
    client.delete_experiment(number)
    with pytest.raises(UserError, match=f"mlflow.experiment is 'tinystories'.*restore --experiment-id {number}"):
        publish(load_params(), root)
    assert start_logger(root).close("FINISHED", timeout=60) is None
    assert capsys.readouterr().out.count("warning: MLflow at sqlite") == 1


def test_publish_cuts_a_long_report_in_the_tag_only(root, files):
    report = "".join(f"line {number} of a long report\n" for number in range(1000))
    paths.REPORT.write_text(report)
    run_id = publish(load_params(), root)
    note = client_of(root).get_run(run_id).data.tags["mlflow.note.content"]
    assert len(note) <= 8000 and note.endswith("a long report\n\n(The rest is in the artifact report.md.)\n")
    assert (root / "mlartifacts" / run_id / "artifacts" / "report.md").read_text() == report


def test_publish_sends_no_credentials(root, files):
    """Parameters with credentials are refused; where they come all the same, they are cut off."""
    stories, server = "https://somebody:hunter2@host.example/x.txt?sig=t0ken", "http://somebody:hunter2@host.example/"
    params, text = load_params(), paths.PARAMS.read_text()
    text = text.replace("    train: '' ", f"    train: {stories} ").replace(
        "tracking_uri: '' ", f"tracking_uri: {server} "
    )
    paths.PARAMS.write_text(text)
    source = params.data.files.model_copy(update={"train": stories})
    params = params.model_copy(
        update={
            "data": params.data.model_copy(update={"files": source}),
            "mlflow": params.mlflow.model_copy(update={"tracking_uri": server}),
        }
    )
    paths.REPORT.write_text("Trained on https://somebody:hunter2@host.example/x.txt?sig=t0ken, and well.\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", tracking_uri("", root))
        run_id = publish(params, root)
    data = client_of(root).get_run(run_id).data
    assert data.params["data.files.train"] == "https://host.example/x.txt"
    assert data.params["mlflow.tracking_uri"] == "http://host.example/"
    sent = [str(data.params), str(data.tags), paths.RECEIPT.read_text()]
    sent += [file.read_text() for file in (root / "mlartifacts").rglob("*") if file.is_file()]
    assert not any(secret in text for secret in SECRETS for text in sent)


@pytest.mark.parametrize("faulty_server", ["dead", "broken"], indirect=True)
def test_publish_fails_in_one_line_without_a_receipt(root, files, faulty_server, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", faulty_server)
    with pytest.raises(UserError) as failure:
        publish(load_params(), root)
    message = str(failure.value)
    assert message.startswith("MLflow at http://127.0.0.1:") and message.count("\n") == 0 and len(message) < 500
    assert message.endswith("run again: dvc repro --force --single-item publish")
    assert not any(secret in message + capsys.readouterr().err for secret in SECRETS), message
    assert not paths.RECEIPT.exists()


def test_publish_names_a_store_without_a_directory(root, files, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all/mlflow.db")
    with pytest.raises(UserError, match="/nowhere/at/all is no directory"):
        publish(load_params(), root)
