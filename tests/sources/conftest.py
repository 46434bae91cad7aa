"""A server that misbehaves, downloads that wait only shortly for it, and the root of a repository."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.faulty_server import Server
from tinystories.sources import download


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Short waits, but patience enough for a busy machine; tests of giving up shorten it."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "STALL_TIMEOUT", 20.0)
    monkeypatch.setattr(download, "INITIAL_BACKOFF", 0.001)
    monkeypatch.setattr(download, "MAX_BACKOFF", 0.02)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(download, "STALL_TIMEOUT", 0.3)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "stories.txt"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current directory, as a stage has it: the repository's root."""
    root = tmp_path / "repo"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.delenv("DVC_ROOT")
    return root


@pytest.fixture
def url(tmp_path):
    """Serves the files of `tmp_path / "served"`."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    (tmp_path / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "served"))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
