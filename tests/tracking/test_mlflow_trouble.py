"""MLflow gets into trouble while a training streams to it: training never waits, says so once, and publish mends it.

"Never waits" is shown without a clock: the training's calls return while a call to MLflow is known to hang.
"""

import http.client
import http.server
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.support.mlflow_record import (
    EPOCHS,
    HISTORY,
    assert_complete_and_single,
    change_run_file,
    client_of,
    points,
    runs,
    stream,
)
from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking import async_logger as live_run
from tinystories.tracking.async_logger import AsyncRunLogger
from tinystories.tracking.metrics import epoch_metrics, history_metrics
from tinystories.tracking.mlflow_run import reason
from tinystories.tracking.mlflow_store import tracking_uri


class Handler(http.server.BaseHTTPRequestHandler):
    server: "Gate"

    def do_GET(self):
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.trouble is None or self.server.trouble(self):
            self.pass_on(data)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def pass_on(self, data):
        connection = http.client.HTTPConnection(self.server.behind)
        connection.request(self.command, self.path, data, {"Content-Type": self.headers.get("Content-Type", "")})
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type", ""))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    def log_message(self, *arguments):
        pass


class Gate(http.server.ThreadingHTTPServer):
    """Stands before a real tracking server, and may get into trouble; a trouble says whether the call goes on then."""

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = urlsplit(server).netloc
        self.trouble: Callable[[Handler], bool] | None = None
        self.called, self.wakes = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


def hang_up(handler):
    handler.server.called.set()
    return False


def answer_500(handler):
    handler.server.called.set()
    handler.send_error(500)
    return False


def hang(handler):
    handler.server.called.set()
    return handler.server.wakes.wait(120)


@pytest.fixture
def gate(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    with Gate(server) as gate:
        thread = threading.Thread(target=gate.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield gate
        gate.wakes.set()
        gate.shutdown()
        thread.join()


@pytest.fixture
def key(request, files):
    """A training of its own, also on a server that several tests share."""
    key = request.node.name.encode().hex()[-64:].rjust(64, "0")
    change_run_file(key=key)
    return key


def log(live: AsyncRunLogger, rows: slice) -> None:
    for row in HISTORY[rows]:
        live.log(int(row["step"]), history_metrics(row))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def first_half(live: AsyncRunLogger, client, rows: int = 5) -> None:
    """Log the first rows, and wait until they are there."""
    log(live, slice(rows))
    wait_for(lambda: live.run_id and len(points(client, live.run_id, "train/tokens_per_second")) == rows)


def second_half(live: AsyncRunLogger) -> None:
    log(live, slice(5, None))
    for row in EPOCHS:
        live.log(int(row["step"]), epoch_metrics(row))
    live.text("samples/epoch_1.md", "a first draft")


def publish_and_check(client, root, key, run_id: str | None) -> str:
    change_run_file(run_id=run_id)
    published = publish(load_params(), root)
    assert_complete_and_single(client, published)
    assert client.get_run(published).info.status == "FINISHED"
    assert [run.info.run_id for run in runs(client) if run.data.tags["pipeline.key"] == key] == [published]
    return published


def one_warning(capsys, words: str) -> None:
    out, err = capsys.readouterr()
    assert out.count("warning: ") == 1 and out.count("\n") == 1 and words in out, out
    assert err == ""


@pytest.mark.parametrize("trouble", [hang_up, answer_500])
def test_a_server_that_fails_in_the_middle(root, files, key, server, gate, trouble, capsys, monkeypatch):
    from mlflow import MlflowClient

    client = MlflowClient(server)
    live = stream(root, uri=gate.url, key=key)
    first_half(live, client)
    gate.trouble = trouble
    second_half(live)
    assert live.close("FINISHED", timeout=60) == live.run_id
    assert gate.called.is_set()
    one_warning(capsys, "publish sends what is missing")
    assert len(points(client, live.run_id, "train/loss")) == 5
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert publish_and_check(client, root, key, live.run_id) == live.run_id


def test_a_server_that_was_down_for_a_moment_gets_the_rest(root, files, key, server, gate, capsys, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setattr(live_run, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(live_run, "MAX_RETRY", 0.01)
    client = MlflowClient(server)
    live = stream(root, uri=gate.url, key=key)
    first_half(live, client)
    gate.trouble = hang_up
    second_half(live)
    wait_for(lambda: live._is_told)
    for _ in range(8):  # more than one try, of three calls each; nobody is told again
        gate.called.clear()
        assert gate.called.wait(60)
    gate.trouble = None
    wait_for(lambda: len(points(client, live.run_id, "train/tokens_per_second")) == len(HISTORY))
    assert live.close("FINISHED", timeout=60) == live.run_id
    out, _ = capsys.readouterr()
    assert out.count("warning: ") == out.count("connected again") == 1 and out.count("\n") == 2, out
    assert client.get_run(live.run_id).info.status == "FINISHED"
    for metric, column in (("train/loss", "loss"), ("train/tokens_per_second", "tokens_per_second")):
        assert points(client, live.run_id, metric) == [(row["step"], row[column]) for row in HISTORY]


def test_what_waits_for_a_dead_server_is_bounded(root, bad_server, monkeypatch, capsys):
    monkeypatch.setattr(live_run, "MAX_QUEUED", 10)
    live = stream(root, uri=bad_server)
    for step in range(1000):
        live.log(step, {"train/loss": 1.0})
    assert live._queue.qsize() + len(live._unsent) <= 20
    live.close("FINISHED", timeout=0.1)
    assert capsys.readouterr().out.count("warning: ") == 1


@pytest.mark.parametrize("ends_first", ["the training", "the call"])
def test_a_call_that_takes_long_holds_nobody_up(root, files, key, server, gate, ends_first, capsys, monkeypatch):
    from mlflow import MlflowClient

    client = MlflowClient(server)
    live = stream(root, uri=gate.url, key=key)
    first_half(live, client)
    gate.trouble = hang
    log(live, slice(5, 6))
    assert gate.called.wait(60)
    second_half(live)  # returns, for nothing lets the call go on
    assert not gate.wakes.is_set()
    if ends_first == "the training":
        assert live.close("FINISHED", timeout=0.1) == live.run_id
        one_warning(capsys, "not done within 0.1 s")
    gate.wakes.set()
    live.close("FINISHED", timeout=60)
    assert "warning" not in capsys.readouterr().out
    assert points(client, live.run_id, "train/loss") == [(row["step"], row["loss"]) for row in HISTORY]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert publish_and_check(client, root, key, live.run_id) == live.run_id


@pytest.mark.parametrize("locked", ["from the start", "in the middle"])
def test_a_locked_database_holds_nobody_up(root, files, key, locked, capsys):
    client = client_of(root)
    other = sqlite3.connect(root / "mlflow.db", isolation_level=None, timeout=60)
    if locked == "from the start":
        other.execute("BEGIN EXCLUSIVE")
    live = stream(root, key=key)
    if locked == "in the middle":
        first_half(live, client)
        other.execute("BEGIN EXCLUSIVE")
    log(live, slice(5))
    second_half(live)
    assert other.in_transaction
    live.close("FINISHED", timeout=0.1)
    one_warning(capsys, "not done within 0.1 s")
    other.execute("ROLLBACK")
    other.close()
    live.close("FINISHED", timeout=60)  # a training's process would end here, with less sent
    assert publish_and_check(client, root, key, None)


def test_a_run_that_is_deleted_meanwhile_is_made_again(root, files, key, capsys):
    client = client_of(root)
    live = stream(root, key=key)
    first_half(live, client)
    deleted = live.run_id
    assert deleted
    client.delete_run(deleted)
    second_half(live)
    live.close("FINISHED", timeout=60)
    one_warning(capsys, "'active'")
    assert publish_and_check(client, root, key, deleted) != deleted
    assert client.get_run(deleted).info.lifecycle_stage == "deleted"


def test_a_full_disk_under_the_database(root, files, key, small_disk, fresh_database, monkeypatch, capsys):
    shutil.copy(fresh_database, small_disk.path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri("", small_disk.path))
    client = client_of(small_disk.path)
    live = stream(small_disk.path, key=key)
    first_half(live, client)
    small_disk.fill()
    second_half(live)
    live.close("FINISHED", timeout=60)
    one_warning(capsys, "database or disk is full")
    with pytest.raises(
        UserError, match=r"^MLflow at sqlite:.*\b(full|No space left)\b.*run again: dvc repro"
    ) as failure:
        publish(load_params(), small_disk.path)
    assert "\n" not in str(failure.value)
    assert not paths.RECEIPT.exists()
    small_disk.make_room()
    publish_and_check(client, small_disk.path, key, live.run_id)


def test_a_full_disk_under_the_artifacts(root, files, key, small_disk):
    (root / "mlartifacts").symlink_to(small_disk.path)
    small_disk.fill()
    with pytest.raises(
        UserError, match=r"^MLflow at sqlite:.*No space left on device.*run again: dvc repro"
    ) as failure:
        publish(load_params(), root)
    assert "\n" not in str(failure.value)
    assert not paths.RECEIPT.exists()
    small_disk.make_room()
    run_id = publish_and_check(client_of(root), root, key, None)
    report = small_disk.path / run_id / "artifacts" / "report.md"
    assert report.read_bytes() == paths.REPORT.read_bytes()


def test_a_full_disk_where_the_database_should_be_made(root, files, key, small_disk, monkeypatch, capsys):
    """MLflow could not use one that was made by half."""
    small_disk.fill()
    live = stream(small_disk.path, key=key, uri=tracking_uri("", small_disk.path))
    second_half(live)
    assert live.close("FINISHED", timeout=60) is None
    one_warning(capsys, "full")
    assert not (small_disk.path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("uri", "seconds", "wait"),
    [("http://127.0.0.1:9", 0.1, 1), ("http://127.0.0.1:9", 60, 3), ("http://127.0.0.1:9", 3600, 10), (None, 60, 10)],
)
def test_a_server_may_hold_up_the_end_for_a_twentieth_of_the_training(root, monkeypatch, uri, seconds, wait):
    def no_run(**known):
        raise UserError("nowhere")

    monkeypatch.setattr(live_run, "open_live", no_run)
    live = stream(root, uri=uri)
    live._thread.join(60)
    waits: list[float] = []
    monkeypatch.setattr(live._thread, "join", waits.append)
    live._opened -= seconds
    live.close("FINISHED")
    assert waits == [pytest.approx(wait, rel=0.2)]


def test_what_a_database_was_asked_is_left_out():
    error = Exception("(sqlite3.OperationalError) database is locked\n[SQL: SELECT runs.run_uuid\nFROM runs]")
    assert reason(error) == "(sqlite3.OperationalError) database is locked"
