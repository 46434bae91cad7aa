"""The MLflow record: a real sqlite store, a real server, and servers that are dead, broken or asleep."""

import csv
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from tinystories import live_run, paths, tracking
from tinystories.errors import UserError
from tinystories.live_run import LiveRun
from tinystories.params import Params, load_params
from tinystories.record import environment_tags, epoch_metrics, flat_params, history_metrics
from tinystories.tracking import publish, tracking_uri

# mlflow's own, from its import: SQLAlchemy 2.1 deprecates what its store uses.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

REPOSITORY = Path(__file__).parent.parent
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


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory):
    """An empty store, made once: its migrations take seconds."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_LOGGING_LEVEL", "CRITICAL")
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tracking._create_database(tracking_uri("", root), root)
    return root / "mlflow.db"


@pytest.fixture
def root(tmp_path, fresh_database, monkeypatch):
    """A user's repository with an empty store. It is not the current directory, as under `dvc exp run --temp`."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr(live_run, "SEND_EVERY", 0.05)
    root = tmp_path / "größe #1"
    root.mkdir()
    shutil.copy(fresh_database, root / "mlflow.db")
    return root


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The current directory, with all that the stages before `publish` write."""
    directory = tmp_path / "copy"
    directory.mkdir()
    monkeypatch.chdir(directory)
    shutil.copy(REPOSITORY / "params.yaml", paths.PARAMS)
    write_csv(paths.HISTORY, HISTORY)
    write_csv(paths.EPOCHS, EPOCHS)
    part = {"bytes": 900, "stories": 3}
    texts = {
        paths.RAW_MANIFEST: {
            "source": "embedded",
            "detail": {"generator": "v1"},
            "train": {**part, "sha256": "a" * 64},
            "valid": {**part, "sha256": "b" * 64},
        },
        paths.RUN: {
            "run_id": None, "key": KEY, "name": None,
            "started": "2026-11-02T10:00:00+00:00", "ended": "2026-11-02T10:00:12+00:00", "environment": ENVIRONMENT,
        },
        paths.TRAIN_METRICS: {**EPOCHS[-1], "steps": 100, "tokens": 6400},
        paths.EVALUATION: EVALUATION,
        paths.REPORT: "# The run\n\nIt went well.\n",
        paths.PLOT: "not really a picture",
        paths.SAMPLES / "epoch_1.md": "Once upon a time",
        paths.FINAL_SAMPLES: "The end",
        paths.CHECKPOINT / "config.json": {"vocab_size": 10000},
        paths.CHECKPOINT / "model.safetensors": "weights",
    }  # fmt: skip
    for path, content in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return directory


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
    return LiveRun(
        uri=uri or tracking_uri("", root), experiment="tinystories", root=root, key=key, run_id=run_id, name=name,
        params=params or {"train.batch_size": 32}, tags=environment_tags(ENVIRONMENT),
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


@pytest.mark.parametrize(
    ("environment", "configured", "expected"),
    [
        ("http://a.example", "http://b.example", "http://a.example"),
        ("", "http://b.example", "http://b.example"),
        ("", "", "sqlite:///{root}/mlflow.db"),
        ("", "sqlite:///sub/other.db", "sqlite:///{root}/sub/other.db"),
        ("sqlite:////elsewhere/m.db", "", "sqlite:////elsewhere/m.db"),
    ],
)
def test_the_address_is_the_environments_else_the_parameters_else_a_file_at_the_root(
    tmp_path, monkeypatch, environment, configured, expected
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    root = tmp_path / "a b ö"
    assert tracking_uri(configured, root) == expected.replace("{root}", root.as_posix())


def test_publish_makes_the_whole_run_from_the_files(root, files):
    run_id = publish(load_params(), root)

    client = client_of(root)
    run = client.get_run(run_id)
    assert_complete_and_single(client, run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "train-1a2b3c4d")
    assert run.info.end_time - run.info.start_time == 12_000
    times = [metric.timestamp - run.info.start_time for metric in client.get_metric_history(run_id, "train/loss")]
    assert times == [row["seconds"] * 1000 for row in HISTORY]
    assert run.data.params["model.embedding_size"] == "256"
    assert json.loads(run.data.params["sample.prompts"])[2] == "The old dragon was sad because"
    assert run.data.tags["pipeline.key"] == KEY
    assert run.data.tags["mlflow.note.content"] == paths.REPORT.read_text()
    assert run.data.tags["mlflow.source.git.commit"] == ENVIRONMENT["git_commit"]
    assert run.data.tags["environment.device"] == "cpu"
    assert artifacts(client, run_id) == [
        "checkpoint/config.json", "checkpoint/model.safetensors", "epochs.csv", "epochs.json", "evaluate.json",
        "history.csv", "params.yaml", "plot.png", "report.md", "samples/epoch_1.md", "samples/final.md", "train.json",
    ]  # fmt: skip
    assert (root / "mlartifacts" / run_id / "artifacts" / "samples" / "final.md").read_text() == "The end"
    assert client.get_experiment(run.info.experiment_id).artifact_location == (root / "mlartifacts").as_uri()
    named = {
        item.tags[0].value: (item.dataset.name, item.dataset.digest, json.loads(item.dataset.profile)["stories"])
        for item in run.inputs.dataset_inputs
    }
    assert named == {"training": ("embedded", "a" * 16, 3), "validation": ("embedded", "b" * 16, 3)}
    receipt = json.loads(paths.RECEIPT.read_text())
    assert receipt == {"run_id": run_id, "experiment": "tinystories", "key": KEY}
    assert not (files / "mlruns").exists() and not (files / "mlflow.db").exists()


def test_the_loss_table_and_the_data_are_what_mlflow_itself_reads(root, files, monkeypatch):
    import mlflow.data

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri("", root))  # load_table looks there, whoever asks
    run_id = publish(load_params(), root)

    client = client_of(root)
    run = client.get_run(run_id)
    table = client.load_table(run.info.experiment_id, "epochs.json", run_ids=[run_id])
    assert table.to_dict("records") == [pytest.approx(row) for row in EPOCHS]
    source = mlflow.data.get_source(run.inputs.dataset_inputs[0].dataset)
    assert source.to_dict() == {"tags": {"generator": "v1"}}


def test_publishing_again_changes_nothing_but_what_the_files_changed(root, files):
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
    assert client.get_run(first).data.tags["mlflow.note.content"] == "# Better told\n"


def test_another_evaluation_of_the_same_training_is_shown(root, files):
    run_id = publish(load_params(), root)
    paths.EVALUATION.write_text(json.dumps({**EVALUATION, "valid_loss": 2.0}))
    publish(load_params(), root)

    latest = client_of(root).get_run(run_id).data.metrics
    assert (latest["final/valid_loss"], latest["final/valid_ppl"]) == (2.0, EVALUATION["valid_ppl"])


def test_parameters_that_changed_without_another_training_stop_nothing(root, files):
    publish(load_params(), root)
    text = paths.PARAMS.read_text().replace("save_every: 30 ", "save_every: 90 ")
    paths.PARAMS.write_text(text)
    run_id = publish(load_params(), root)
    assert client_of(root).get_run(run_id).data.params["train.save_every"] == "30.0"


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


def test_a_run_is_found_by_key_where_the_id_is_of_another_store(root, files):
    first = publish(load_params(), root)
    change_run_file(run_id="0" * 32)
    assert publish(load_params(), root) == first


def test_a_run_that_is_gone_is_made_again_from_the_files(root, files, tmp_path, fresh_database):
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


def test_another_key_or_another_experiment_has_a_run_of_its_own(root, files):
    first = publish(load_params(), root)
    change_run_file(run_id=first)
    values = yaml.safe_load(paths.PARAMS.read_text())
    values["mlflow"]["experiment"] = "elsewhere"
    assert publish(Params.model_validate(values), root) != first
    change_run_file(run_id=None, key="f" * 64)
    assert publish(load_params(), root) != first
    client = client_of(root)
    assert (len(runs(client)), len(runs(client, "elsewhere"))) == (2, 1)


def test_an_experiment_that_was_deleted_is_named_and_how_to_restore_it(root, files, capsys):
    publish(load_params(), root)
    client = client_of(root)
    number = client.get_experiment_by_name("tinystories").experiment_id
    client.delete_experiment(number)
    with pytest.raises(UserError, match=f"mlflow.experiment is 'tinystories'.*restore --experiment-id {number}"):
        publish(load_params(), root)
    assert stream(root).close("FINISHED", timeout=60) is None
    assert capsys.readouterr().out.count("warning: MLflow at sqlite") == 1


def test_a_long_report_is_cut_between_lines_and_whole_as_an_artifact(root, files):
    report = "".join(f"line {number} of a long report\n" for number in range(1000))
    paths.REPORT.write_text(report)
    run_id = publish(load_params(), root)
    note = client_of(root).get_run(run_id).data.tags["mlflow.note.content"]
    assert len(note) <= 8000 and note.endswith("a long report\n\n(The rest is in the artifact report.md.)\n")
    assert (root / "mlartifacts" / run_id / "artifacts" / "report.md").read_text() == report


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (paths.HISTORY, "step,loss\n1,2\n", "history.csv, line 2: 'seconds' is missing"),
        (paths.EPOCHS, "step,seconds,train_loss\n1,2,much\n", "epochs.csv, line 2: could not convert .*'much'"),
        (paths.EVALUATION, "{}", "evaluate.json: 'valid_loss' is missing"),
        (paths.RUN, '{"run_id": null}', "run.json: 'key' is missing"),
        (paths.PLOT, None, "plot.png: no such file"),
    ],
)
def test_a_bad_file_is_named_before_anything_is_sent(root, files, path, content, message):
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        publish(load_params(), root)
    assert client_of(root).get_experiment_by_name("tinystories") is None
    assert not paths.RECEIPT.exists()


SECRETS = ("hunter2", "t0ken", "somebody")


def test_credentials_go_nowhere(root, files):
    text = paths.PARAMS.read_text()
    text = text.replace('    train: "" ', "    train: https://somebody:hunter2@host.example/x.txt?sig=t0ken ")
    text = text.replace('tracking_uri: "" ', "tracking_uri: http://somebody:hunter2@host.example/ ")
    paths.PARAMS.write_text(text)
    paths.REPORT.write_text("Trained on https://somebody:hunter2@host.example/x.txt?sig=t0ken, and well.\n")
    params = load_params()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", tracking_uri("", root))
        run_id = publish(params, root)
    data = client_of(root).get_run(run_id).data
    assert data.params["data.files.train"] == "https://host.example/x.txt"
    assert data.params["mlflow.tracking_uri"] == "http://host.example/"
    sent = [str(data.params), str(data.tags), paths.RECEIPT.read_text()]
    sent += [file.read_text() for file in (root / "mlartifacts").rglob("*") if file.is_file()]
    assert not any(secret in text for secret in SECRETS for text in sent)


class Broken(http.server.BaseHTTPRequestHandler):
    """A server that answers 500, or, where it has an event, nothing before that is set."""

    wakes: threading.Event | None = None

    def do_GET(self):
        if self.wakes is not None:
            self.wakes.wait(120)
        self.send_response(500)
        self.end_headers()
        self.wfile.write(b"somebody:hunter2@ said no\n" * 100)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture(params=["dead", "broken", "asleep"])
def bad_server(request, monkeypatch):
    """The address of a server that is of no use."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    wakes = threading.Event()
    handler = type("Handler", (Broken,), {"wakes": wakes if request.param == "asleep" else None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    if request.param == "dead":
        server.shutdown()
        server.server_close()
    yield f"http://somebody:hunter2@127.0.0.1:{server.server_port}/?token=t0ken"
    wakes.set()
    if request.param != "dead":
        server.shutdown()
        server.server_close()
    thread.join()


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


@pytest.mark.parametrize("bad_server", ["dead", "broken"], indirect=True)
def test_publish_fails_in_one_line_and_leaves_no_receipt(root, files, bad_server, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", bad_server)
    with pytest.raises(UserError) as failure:
        publish(load_params(), root)
    message = str(failure.value)
    assert message.startswith("MLflow at http://127.0.0.1:") and message.count("\n") == 0 and len(message) < 500
    assert message.endswith("run again: dvc repro --force --single-item publish")
    assert not any(secret in message + capsys.readouterr().err for secret in SECRETS), message
    assert not paths.RECEIPT.exists()


def test_a_store_that_cannot_be_written_is_said_at_once(root, files, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all/mlflow.db")
    with pytest.raises(UserError, match="/nowhere/at/all is no directory"):
        publish(load_params(), root)


OPEN_A_RUN = """
import sys
from pathlib import Path
from tinystories.tracking import Run, tracking_uri
root = Path(sys.argv[1])
run = Run(uri=tracking_uri("", root), experiment="tinystories", root=root, key=sys.argv[2], run_id=None, name=None,
          call_timeout=10)
print(run.id)
"""


def test_several_processes_may_open_a_fresh_store_at_once(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "root"
    root.mkdir()
    for name in ("mlflow.db.part", "mlflow.db.part-journal"):
        (root / name).write_bytes(b"left by a creation that was killed")
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN_A_RUN, str(root), str(i) * 64], stdout=-1, stderr=-1, text=True)
        for i in range(4)
    ]
    results = [process.communicate(timeout=120) for process in processes]
    assert [err for _, err in results] == [""] * 4
    client = client_of(root)
    assert {run.info.run_id for run in runs(client)} == {out.strip() for out, _ in results}
    assert client.get_experiment("0").artifact_location == (root / "mlartifacts").as_uri() + "/0"
    assert sorted(path.name for path in root.iterdir()) == [".state", "mlflow.db"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_importing_it_does_not_wait_for_mlflow():
    code = "import sys, tinystories.live_run; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture
def server(tmp_path, fresh_database):
    """A real tracking server, with artifacts of its own."""
    shutil.copy(fresh_database, tmp_path / "server.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


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
