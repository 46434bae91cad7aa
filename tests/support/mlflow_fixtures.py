"""Fixtures of the MLflow tests: a run's files, a real sqlite store, a real server, and servers of no use.

A conftest.py imports those that its tests need.
"""

import http.server
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings

import pytest

from tests.support.mlflow_runs import ENVIRONMENT, EPOCHS, EVALUATION, HISTORY, KEY, TRAIN_METRICS, change_run_file
from tests.support.report_files import CORPUS, JUDGED
from tests.support.repository import PARAMS
from tinystories.common import paths
from tinystories.common.artifacts import (
    Environment,
    EpochIndex,
    EpochRow,
    HistoryRow,
    Manifest,
    Parent,
    Run,
    StoryFile,
)
from tinystories.tracking import async_logger, mlflow_store


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory):
    """An empty store, made once: its migrations take seconds."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_LOGGING_LEVEL", "CRITICAL")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mlflow_store.create_database(root / "mlflow.db")
    return root / "mlflow.db"


@pytest.fixture
def root(tmp_path, fresh_database, monkeypatch):
    """A user's repository with an empty store. It is not the current directory, as under `dvc exp run --temp`."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr(async_logger, "SEND_EVERY", 0.05)
    for name in ("mlflow", "alembic"):  # as in a stage, also where an earlier test imported MLflow
        monkeypatch.setattr(logging.getLogger(name), "level", logging.CRITICAL)
    root = tmp_path / "größe #1"
    root.mkdir()
    shutil.copy(fresh_database, root / "mlflow.db")
    return root


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The current directory, with all that the stages before `publish` write."""
    directory = tmp_path / "copy"
    directory.mkdir()
    monkeypatch.chdir(directory)
    shutil.copy(PARAMS, paths.PARAMS)
    HistoryRow.write_table(HISTORY)
    EpochRow.write_table(EPOCHS)
    CORPUS.write()
    EVALUATION.write()
    JUDGED.write()
    EpochIndex(epochs=[2], best=2).write()
    TRAIN_METRICS.write()
    Manifest(
        source="embedded",
        detail={"generator": "v1"},
        train=StoryFile(bytes=900, stories=3, sha256="a" * 64),
        valid=StoryFile(bytes=900, stories=3, sha256="b" * 64),
    ).write()
    Run(
        run_id=None, key=KEY, name=None, started="2026-11-02T10:00:00+00:00", ended="2026-11-02T10:00:12+00:00",
        environment=Environment.model_validate(ENVIRONMENT),
        parent=Parent(init_from="models:/tinystories@champion", sha256="c" * 64),
    ).write()  # fmt: skip
    texts = {
        paths.REPORT: "# The run\n\nIt went well.\n",
        paths.REPORT_HTML: "<p>It went well.</p>\n",
        paths.MODEL_CARD: "# The model\n",
        paths.PLOT: "not really a picture",
        paths.SAMPLES / "epoch_1.md": "Once upon a time",
        paths.FINAL_SAMPLES: "The end",
        paths.CHECKPOINT / "config.json": '{"vocab_size": 10000}',
        paths.CHECKPOINT / "model.safetensors": "weights",
    }
    for path, content in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return directory


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
def faulty_server(request, monkeypatch):
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


@pytest.fixture(scope="session")
def server(tmp_path_factory, fresh_database):
    """A real tracking server, with artifacts of its own."""
    tmp_path = tmp_path_factory.mktemp("server")
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


@pytest.fixture
def key(request, files):
    """A training of its own, also on a server that several tests share."""
    key = request.node.name.encode().hex()[-64:].rjust(64, "0")
    change_run_file(key=key)
    return key
