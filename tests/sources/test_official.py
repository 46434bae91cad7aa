"""Source `tinystories`: the official files, pinned and checked, downloaded once and cached."""

import hashlib
import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.faulty_server import DATA, OTHER, SHA256
from tests.support.sources import params, problem
from tinystories.common.artifacts import StoryFile
from tinystories.common.errors import UserError
from tinystories.common.paths import RAW_MANIFEST, RAW_TRAIN, RAW_VALID
from tinystories.sources import download
from tinystories.sources.download import part_file
from tinystories.sources.official import DATASET_URL, EDITIONS, REVISION, OfficialFile, prepare_official
from tinystories.sources.prepare import prepare

OFFICIAL = params("tinystories")
CACHED = Path(".state/downloads/train.txt")

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def official(url, tmp_path, monkeypatch):
    """A server with small stand-ins of the official files."""
    texts = [b"One.\n\n<|endoftext|>\nTwo.\n<|endoftext|>\n", b"Three. \n<|endoftext|>\n"]
    files = []
    for name, text, stories in zip(("train.txt", "valid.txt"), texts, (2, 1), strict=True):
        (tmp_path / "served" / name).write_bytes(text)
        content = StoryFile(bytes=len(text), stories=stories, sha256=hashlib.sha256(text).hexdigest())
        files.append(OfficialFile(name, content))
    monkeypatch.setattr(OfficialFile, "url", property(lambda file: f"{url}/{file.name}"))
    monkeypatch.setitem(EDITIONS, "v2", tuple(files))
    return tmp_path / "served"


def test_prepare_official_keeps_the_bytes(official):
    prepare(OFFICIAL)
    assert RAW_TRAIN.read_bytes() == (official / "train.txt").read_bytes()
    assert RAW_VALID.read_bytes() == (official / "valid.txt").read_bytes()
    found = json.loads(RAW_MANIFEST.read_text())
    assert found["detail"]["edition"] == "v2" and len(found["detail"]["revision"]) == 40
    assert found["train"] == {
        "bytes": 39,
        "stories": 2,
        "sha256": hashlib.sha256(RAW_TRAIN.read_bytes()).hexdigest(),
    }


def test_editions_are_of_the_pinned_revision():
    for edition in EDITIONS.values():
        for file in edition:
            assert file.url == f"{DATASET_URL}/resolve/{REVISION}/{file.name}"
            assert len(file.content.sha256) == 64 and int(file.content.sha256, 16)
            assert 700 < file.content.bytes / file.content.stories < 1000


def test_prepare_official_without_server_says_what_to_do(official, monkeypatch):
    monkeypatch.setattr(download, "STALL_TIMEOUT", 0.2)
    (official / "train.txt").write_bytes(b"something else")
    message = problem(OFFICIAL)
    assert "127.0.0.1" in message and "`make quickstart`" in message and "data.source=files" in message


def test_prepare_official_refuses_small_disk(official, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    message = problem(OFFICIAL)
    assert "0.0 GB free on this disk; the download needs 0.0 GB, and what DVC keeps of it twice as much" in message
    assert not (Path(".state/downloads")).exists()


def test_prepare_official_partial_download_needs_no_space(official, monkeypatch):
    part = part_file(EDITIONS["v2"][0].url)
    part.parent.mkdir(parents=True)
    part.write_bytes((official / "train.txt").read_bytes())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=30))
    prepare(OFFICIAL)
    assert RAW_TRAIN.read_bytes() == (official / "train.txt").read_bytes()


@pytest.fixture
def official_server(server, monkeypatch, impatient):
    """The faulty server, with one stand-in for both official files."""
    content = StoryFile(bytes=len(DATA), stories=3, sha256=SHA256)
    monkeypatch.setitem(EDITIONS, "v2", tuple(OfficialFile(name, content) for name in ("train.txt", "valid.txt")))
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(OfficialFile, "url", property(lambda file: f"{address}/{file.name}"))
    return server


def clear_outputs() -> None:
    """As DVC does before each run of the stage."""
    for path in (RAW_TRAIN, RAW_VALID):
        path.unlink()


def test_cache_is_used_by_a_later_run(official_server):
    prepare(OFFICIAL)
    assert len(official_server.requests) == 2
    clear_outputs()
    prepare(OFFICIAL)
    assert len(official_server.requests) == 2
    assert RAW_TRAIN.read_bytes() == RAW_VALID.read_bytes() == DATA
    assert RAW_TRAIN.samefile(CACHED)  # it takes no second room
    kept = {path.name for path in CACHED.parent.iterdir() if path.suffix != ".lock"}
    assert kept == {"train.txt", "valid.txt"}


@pytest.mark.parametrize("spoil", ["one byte", "cut", "longer"])
def test_cache_is_checked(official_server, spoil):
    """Also where somebody has changed data/raw/train.txt in its place, which may be the same file."""
    prepare(OFFICIAL)
    with RAW_TRAIN.open("r+b") as file:
        if spoil == "cut":
            file.truncate(5000)
        else:
            file.seek(0 if spoil == "one byte" else len(DATA))
            file.write(b"?")
    clear_outputs()
    prepare(OFFICIAL)
    assert len(official_server.requests) == 3
    assert RAW_TRAIN.read_bytes() == CACHED.read_bytes() == DATA


def test_cache_is_copied_without_hard_links(official_server, monkeypatch):
    def refuse(path: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    prepare(OFFICIAL)
    assert RAW_TRAIN.read_bytes() == DATA and not RAW_TRAIN.samefile(CACHED)


def test_cache_takes_no_wrong_bytes(official_server):
    official_server.data = OTHER
    with pytest.raises(UserError, match="found another file"):
        prepare(OFFICIAL)
    assert not CACHED.exists() and not RAW_TRAIN.exists()


def test_cache_two_runs_download_once(official_server):
    # Not `prepare`: its manifest would be written twice in one directory, which runs in copies never do.
    threads = [threading.Thread(target=prepare_official, args=(OFFICIAL.data.tinystories,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(official_server.requests) == 2
    assert RAW_TRAIN.read_bytes() == DATA


def test_cache_needs_no_space_again(official_server, monkeypatch):
    prepare(OFFICIAL)
    clear_outputs()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    prepare(OFFICIAL)
    assert len(official_server.requests) == 2
