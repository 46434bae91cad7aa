"""A server that fails while a training logs to it: training never waits, warns once, and publish completes the run.

"Never waits" is shown without a clock: the training's calls return while a call to MLflow is known to hang.
Needs free ports for the server and for a proxy before it.
"""

import http.client
import http.server
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.support.mlflow_runs import (
    HISTORY,
    assert_one_warning,
    log_first_half,
    log_rows,
    log_second_half,
    losses,
    points,
    publish_and_check,
    start_logger,
    wait_for,
)
from tinystories.tracking import async_logger

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("trouble", [hang_up, answer_500])
def test_logger_survives_a_failing_server(root, files, key, server, gate, trouble, capsys, monkeypatch):
    from mlflow import MlflowClient

    client = MlflowClient(server)
    logger = start_logger(root, uri=gate.url, key=key)
    log_first_half(logger, client)
    gate.trouble = trouble
    log_second_half(logger)
    assert logger.close("FINISHED", timeout=60) == logger.run_id
    assert gate.called.is_set()
    assert_one_warning(capsys, "publish sends what is missing")
    assert len(points(client, logger.run_id, "train/loss")) == 5
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert publish_and_check(client, root, key, logger.run_id) == logger.run_id


def test_logger_sends_the_rest_after_a_failure(root, files, key, server, gate, capsys, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setattr(async_logger, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(async_logger, "MAX_RETRY", 0.01)
    client = MlflowClient(server)
    logger = start_logger(root, uri=gate.url, key=key)
    log_first_half(logger, client)
    gate.trouble = hang_up
    log_second_half(logger)
    wait_for(lambda: logger._has_warned)
    for _ in range(8):  # more than one try, of three calls each; without another warning
        gate.called.clear()
        assert gate.called.wait(60)
    gate.trouble = None
    wait_for(lambda: len(points(client, logger.run_id, "train/tokens_per_second")) == len(HISTORY))
    assert logger.close("FINISHED", timeout=60) == logger.run_id
    out, _ = capsys.readouterr()
    assert out.count("warning: ") == out.count("connected again") == 1 and out.count("\n") == 2, out
    assert client.get_run(logger.run_id).info.status == "FINISHED"
    for column in ("loss", "tokens_per_second"):
        logged = points(client, logger.run_id, f"train/{column}")
        assert logged == [(row.step, getattr(row, column)) for row in HISTORY]


@pytest.mark.parametrize("ends_first", ["the training", "the call"])
def test_logger_never_waits_for_a_hanging_call(root, files, key, server, gate, ends_first, capsys, monkeypatch):
    from mlflow import MlflowClient

    client = MlflowClient(server)
    logger = start_logger(root, uri=gate.url, key=key)
    log_first_half(logger, client)
    gate.trouble = hang
    log_rows(logger, HISTORY[5:6])
    assert gate.called.wait(60)
    log_second_half(logger)  # returns while the call hangs
    assert not gate.wakes.is_set()
    if ends_first == "the training":
        assert logger.close("FINISHED", timeout=0.1) == logger.run_id
        assert_one_warning(capsys, "not done within 0.1 s")
    gate.wakes.set()
    logger.close("FINISHED", timeout=60)
    assert "warning" not in capsys.readouterr().out
    assert points(client, logger.run_id, "train/loss") == losses(HISTORY)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert publish_and_check(client, root, key, logger.run_id) == logger.run_id
