"""A Hub that misbehaves, downloads that wait only shortly for it, and the root of a repository."""

import threading

import pytest
from huggingface_hub import constants

from tests.support.faulty_server import Server, use_hub
from tinystories.sources import hub


@pytest.fixture
def server(tmp_path, monkeypatch):
    """HF_ENDPOINT names it. Tests of giving up shorten the waits: a busy machine needs patience."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    use_hub(server.endpoint, tmp_path / "hf", monkeypatch)
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


@pytest.fixture
def impatient(server, monkeypatch):
    monkeypatch.setattr(hub, "STALL_TIMEOUT", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.4)


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
