"""The official files are downloaded once: a later run of the stage finds them, and checks them again."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT
from tests.support.faulty_server import DATA, OTHER, SHA256, Server
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.params_file import load_params
from tinystories.common.paths import RAW_TRAIN, RAW_VALID
from tinystories.corpus.stories import FileStats
from tinystories.sources import download
from tinystories.sources.official import EDITIONS, OfficialFile
from tinystories.sources.prepare import prepare

FILES = tuple(OfficialFile(name, FileStats(len(DATA), 3, SHA256)) for name in ("train.txt", "valid.txt"))
KEPT = Path(".state/downloads/train.txt")


@pytest.fixture
def params(tmp_path: Path) -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves small stand-ins of the official files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "STALL_TIMEOUT", 0.3)
    with Server() as server:
        monkeypatch.setitem(EDITIONS, "v2", FILES)
        monkeypatch.setattr(
            OfficialFile, "url", property(lambda file: f"http://127.0.0.1:{server.server_port}/{file.name}")
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def clear_outputs() -> None:
    """As DVC does before each run of the stage."""
    for path in (RAW_TRAIN, RAW_VALID):
        path.unlink()


def test_a_later_run_finds_what_was_downloaded(server, params):
    prepare(params)
    assert len(server.requests) == 2
    clear_outputs()
    prepare(params)
    assert len(server.requests) == 2
    assert RAW_TRAIN.read_bytes() == RAW_VALID.read_bytes() == DATA
    assert RAW_TRAIN.samefile(KEPT)  # it takes no second room
    kept = {path.name for path in KEPT.parent.iterdir() if path.suffix != ".lock"}
    assert kept == {"train.txt", "valid.txt"}


@pytest.mark.parametrize("spoil", ["one byte", "cut", "longer"])
def test_what_was_kept_is_checked(server, params, spoil):
    """Also where somebody has changed data/raw/train.txt in its place, which may be the same file."""
    prepare(params)
    with RAW_TRAIN.open("r+b") as file:
        if spoil == "cut":
            file.truncate(5000)
        else:
            file.seek(0 if spoil == "one byte" else len(DATA))
            file.write(b"?")
    clear_outputs()
    prepare(params)
    assert len(server.requests) == 3
    assert RAW_TRAIN.read_bytes() == KEPT.read_bytes() == DATA


def test_where_files_cannot_be_linked_they_are_copied(server, params, monkeypatch):
    def refuse(path: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    prepare(params)
    assert RAW_TRAIN.read_bytes() == DATA and not RAW_TRAIN.samefile(KEPT)


def test_wrong_bytes_are_not_kept(server, params):
    server.data = OTHER
    with pytest.raises(UserError, match="found another file"):
        prepare(params)
    assert not KEPT.exists() and not RAW_TRAIN.exists()


def test_two_runs_at_once_download_once(server, params):
    threads = [threading.Thread(target=prepare, args=(params,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 2
    assert RAW_TRAIN.read_bytes() == DATA


def test_what_is_kept_needs_no_room_again(server, params, monkeypatch):
    prepare(params)
    clear_outputs()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    prepare(params)
    assert len(server.requests) == 2
