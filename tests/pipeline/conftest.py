"""Fixtures of the pipeline tests: an empty directory that is watched, a Hub."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faulty_server import Server, use_hub


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, empty. Afterwards nothing may have left a file `harm*`."""
    inside = tmp_path / "a" / "b" / "project"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    monkeypatch.setenv("DVC_ROOT", str(inside))
    yield inside
    assert not list(tmp_path.rglob("harm*"))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        use_hub(server.endpoint, tmp_path / "hf", monkeypatch)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
