"""Source `tinystories`: the official files, pinned and checked, from the user's cache, else downloaded once and kept.

Needs a local port.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, hf_hub_download

from tests.support.faulty_server import DATA, OTHER, SHA256, cut, hang_up, status
from tests.support.repository import PARAMS, ROOT
from tests.support.sources import params, problem
from tinystories.common.artifacts import StoryFile
from tinystories.common.errors import UserError
from tinystories.common.paths import RAW_MANIFEST, RAW_TRAIN, RAW_VALID
from tinystories.sources import hub
from tinystories.sources.hub import part_file
from tinystories.sources.official import DATASET_URL, EDITIONS, REPO, REVISION, OfficialFile, prepare_official
from tinystories.sources.prepare import prepare

OFFICIAL = params("tinystories")
KEPT = Path(".state/downloads/train.txt")

pytestmark = pytest.mark.usefixtures("here")


def put_editions(monkeypatch, **contents: tuple[bytes, int]) -> None:
    """Put small stand-ins of the official files in their place: bytes, and how many stories they have."""
    files = []
    for name, (text, stories) in contents.items():
        content = StoryFile(bytes=len(text), stories=stories, sha256=hashlib.sha256(text).hexdigest())
        files.append(OfficialFile(f"{name}.txt", content))
    monkeypatch.setitem(EDITIONS, "v2", tuple(files))


@pytest.fixture
def official(server, monkeypatch):
    """A Hub with small stand-ins of the official files."""
    train, valid = b"One.\n\n<|endoftext|>\nTwo.\n<|endoftext|>\n", b"Three. \n<|endoftext|>\n"
    put_editions(monkeypatch, train=(train, 2), valid=(valid, 1))
    server.files = {"train.txt": train, "valid.txt": valid}
    return server


def test_prepare_official_keeps_the_bytes(official):
    prepare(OFFICIAL)
    assert RAW_TRAIN.read_bytes() == official.files["train.txt"]
    assert RAW_VALID.read_bytes() == official.files["valid.txt"]
    found = json.loads(RAW_MANIFEST.read_text())
    assert found["detail"] == {
        "edition": "v2",
        "url": "https://huggingface.co/datasets/roneneldan/TinyStories",
        "revision": REVISION,
        "license": "CDLA-Sharing-1.0",
    }
    assert found["train"] == {
        "bytes": 39,
        "stories": 2,
        "sha256": hashlib.sha256(RAW_TRAIN.read_bytes()).hexdigest(),
    }


def test_editions_are_of_the_pinned_revision():
    assert len(REVISION) == 40
    for edition in EDITIONS.values():
        for file in edition:
            assert file.url == f"{DATASET_URL}/resolve/{REVISION}/{file.name}"
            assert len(file.content.sha256) == 64 and int(file.content.sha256, 16)
            assert 700 < file.content.bytes / file.content.stories < 1000


def test_prepare_official_without_server_says_what_to_do(official, impatient):
    official.always = status(503)
    message = problem(OFFICIAL)
    assert official.endpoint in message and "HF_ENDPOINT=https://" in message and "data.source=files" in message
    assert "data.source=embedded" in message and "`make quickstart`" in message


def test_prepare_official_refuses_small_disk(official, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    message = problem(OFFICIAL)
    assert "0.0 GB free on this disk; the stories need 0.0 GB, and what DVC keeps of them twice as much" in message
    assert not (Path(".state/downloads")).exists() and not official.heads


def test_prepare_official_partial_download_needs_no_space(official, monkeypatch):
    part = part_file(EDITIONS["v2"][0].kept_path)
    part.parent.mkdir(parents=True)
    part.write_bytes(official.files["train.txt"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=30))
    prepare(OFFICIAL)
    assert RAW_TRAIN.read_bytes() == official.files["train.txt"]


def test_prepare_official_goes_on_where_it_broke(official_server, impatient):
    official_server.answers = [cut(40_000), *[status(503)] * 1000]
    assert "what has arrived is kept" in problem(OFFICIAL)
    official_server.answers.clear()
    del official_server.requests[:]
    prepare(OFFICIAL)
    assert RAW_TRAIN.read_bytes() == DATA
    *train, valid = official_server.ranges()  # an attempt of before may still be under way
    assert set(train) == {"bytes=40000-"} and valid is None


def run_stage(**environment: str) -> "subprocess.CompletedProcess[str]":
    """The stage as a user has it, but for the size and checksum of the files, and its patience."""
    shutil.copy(PARAMS, "params.yaml")
    script = (
        "from tinystories.sources import official, hub;"
        "hub.STALL_TIMEOUT = hub.constants.HF_HUB_DOWNLOAD_TIMEOUT = 2.0;"
        "from tinystories.common.artifacts import StoryFile;"
        f"content = StoryFile(bytes={len(DATA)}, stories=3, sha256='{SHA256}');"
        "official.EDITIONS['v2'] = tuple(official.OfficialFile(n, content) for n in ('train.txt', 'valid.txt'));"
        f"import sys, runpy; sys.path.insert(0, '{ROOT / 'stages'}');"
        f"runpy.run_path('{ROOT / 'stages/download.py'}', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(Path("hf").resolve()), **environment},
        capture_output=True,
        text=True,
    )


def test_stage_reads_the_usual_environment(official_server):
    """HF_ENDPOINT, HF_TOKEN; the library draws no progress bars, and does not say that it tries again."""
    official_server.answers = [hang_up]
    usual = {"HF_ENDPOINT": official_server.endpoint, "HF_TOKEN": "hf_abc", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = run_stage(**usual, TQDM_POSITION="-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "3 stories to train on (0.1 MB), 3 to validate on\n"
    assert {headers["Authorization"] for headers in official_server.requests} == {"Bearer hf_abc"}
    assert RAW_TRAIN.read_bytes() == RAW_VALID.read_bytes() == DATA


def test_stage_offline_uses_the_users_cache(official_server):
    for name in ("train.txt", "valid.txt"):
        put_in_cache(name, "hf/hub")
    assert run_stage(HF_HUB_OFFLINE="1", HF_HUB_CACHE="").returncode == 1  # another cache, without them
    done = run_stage(HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert RAW_TRAIN.read_bytes() == RAW_VALID.read_bytes() == DATA


def test_stage_without_a_network_says_the_ways_out():
    assert hub.STALL_TIMEOUT == 25.0, "what is told here after 2 s is told within 30 s"
    done = run_stage(HF_ENDPOINT="http://127.0.0.1:9", NO_PROXY="*")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: http://127.0.0.1:9/datasets/roneneldan/TinyStories/resolve/")
    assert "the connection is refused; gave up after 2 s without progress; ways out: a mirror" in done.stderr


def put_in_cache(name: str, cache: str) -> Path:
    """Let the library download a file into the user's cache. Returns where its bytes are."""
    found = hf_hub_download(REPO, name, repo_type="dataset", revision=REVISION, cache_dir=cache)
    return Path(found).resolve()


def test_users_cache_is_used(official_server):
    blob = put_in_cache("train.txt", constants.HF_HUB_CACHE)
    del official_server.requests[:]
    prepare(OFFICIAL)
    assert RAW_TRAIN.read_bytes() == RAW_VALID.read_bytes() == DATA
    assert len(official_server.requests) == 1  # valid.txt
    assert not RAW_TRAIN.is_symlink() and not RAW_TRAIN.samefile(blob) and not KEPT.exists()


@pytest.mark.parametrize("spoil", ["one byte", "cut", "longer"])
def test_users_cache_is_checked(official_server, spoil, capsys):
    official_server.etag = '"another"'
    blob = put_in_cache("train.txt", constants.HF_HUB_CACHE)
    spoil_file(blob, spoil)
    spoiled = blob.read_bytes()
    prepare(OFFICIAL)
    assert RAW_TRAIN.read_bytes() == DATA
    assert f"warning: {blob}, of the Hugging Face cache, has not the bytes of train.txt" in capsys.readouterr().out
    assert blob.read_bytes() == spoiled


@pytest.fixture
def official_server(server, monkeypatch):
    """The faulty server, with one stand-in for both official files."""
    put_editions(monkeypatch, train=(DATA, 3), valid=(DATA, 3))
    return server


def spoil_file(path: Path, how: str) -> None:
    with path.open("r+b") as file:
        if how == "cut":
            file.truncate(5000)
        else:
            file.seek(0 if how == "one byte" else len(DATA))
            file.write(b"?")


def clear_outputs() -> None:
    """As DVC does before each run of the stage."""
    for path in (RAW_TRAIN, RAW_VALID):
        path.unlink()


def test_kept_download_is_used_by_a_later_run(official_server):
    prepare(OFFICIAL)
    assert len(official_server.requests) == 2
    clear_outputs()
    prepare(OFFICIAL)
    assert len(official_server.requests) == 2
    assert RAW_TRAIN.read_bytes() == RAW_VALID.read_bytes() == DATA
    assert RAW_TRAIN.samefile(KEPT)  # it takes no second room
    kept = {path.name for path in KEPT.parent.iterdir() if path.suffix != ".lock"}
    assert kept == {"train.txt", "valid.txt"}


@pytest.mark.parametrize("spoil", ["one byte", "cut", "longer"])
def test_kept_download_is_checked(official_server, spoil):
    """Also where somebody has changed data/raw/train.txt in its place, which may be the same file."""
    prepare(OFFICIAL)
    spoil_file(RAW_TRAIN, spoil)
    clear_outputs()
    prepare(OFFICIAL)
    assert len(official_server.requests) == 3
    assert RAW_TRAIN.read_bytes() == KEPT.read_bytes() == DATA


def test_kept_download_is_copied_without_hard_links(official_server, monkeypatch):
    def refuse(path: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    prepare(OFFICIAL)
    assert RAW_TRAIN.read_bytes() == DATA and not RAW_TRAIN.samefile(KEPT)


def test_wrong_bytes_are_not_kept(official_server):
    official_server.data = OTHER
    with pytest.raises(UserError, match="found another file"):
        prepare(OFFICIAL)
    assert not KEPT.exists() and not RAW_TRAIN.exists()


def test_two_runs_download_once(official_server):
    # Not `prepare`: its manifest would be written twice in one directory, which runs in copies never do.
    threads = [threading.Thread(target=prepare_official, args=(OFFICIAL.data.tinystories,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(official_server.requests) == 2
    assert RAW_TRAIN.read_bytes() == DATA


def test_kept_download_needs_no_space_again(official_server, monkeypatch):
    prepare(OFFICIAL)
    clear_outputs()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    prepare(OFFICIAL)
    assert len(official_server.requests) == 2
