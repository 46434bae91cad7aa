"""The stage's three sources of stories."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.repository import ROOT
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.params_file import load_params
from tinystories.common.paths import RAW_MANIFEST, RAW_TRAIN, RAW_VALID
from tinystories.corpus.stories import FileStats, read_stories
from tinystories.sources import download, storygen
from tinystories.sources import prepare as sources
from tinystories.sources.official import EDITIONS, OfficialFile
from tinystories.sources.prepare import prepare

STORIES = [f"Story {number}.\n\nLily saw {number} frogs é." for number in range(400)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Stages run in the repository's root."""
    root = tmp_path / "repo"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
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


def params(source: str, seed: int = 1337, **section: object) -> Params:
    values = load_params(ROOT / "params.yaml").model_dump()
    values["seed"] = values["data"]["embedded"]["seed"] = seed
    values["data"]["source"] = source
    values["data"][source].update(section)
    return Params.model_validate(values)


def write(path: Path, stories: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n<|endoftext|>\n".join(stories).encode())


def manifest():
    """The manifest, after a check that it is true."""
    found = json.loads(RAW_MANIFEST.read_text())
    for side, path in (("train", RAW_TRAIN), ("valid", RAW_VALID)):
        data = path.read_bytes()
        stories = list(read_stories(path))
        assert found[side] == {
            "bytes": len(data),
            "stories": len(stories),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        assert data == b"".join(f"{story}\n<|endoftext|>\n".encode() for story in stories)
    assert list(found) == ["source", "detail", "train", "valid"]
    return found


def sides():
    return list(read_stories(RAW_TRAIN)), list(read_stories(RAW_VALID))


def entry(name: str, path: Path, stories: int):
    data = path.read_bytes()
    return {"path": name, "bytes": len(data), "stories": stories, "sha256": hashlib.sha256(data).hexdigest()}


def problem(given: Params) -> str:
    """The message of a source that fails; it leaves nothing half-written."""
    with pytest.raises(UserError) as error:
        prepare(given)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)
    assert not Path("data").exists() or not [path for path in Path("data").rglob("*") if path.is_file()]
    downloads = Path(".state/downloads")
    assert not downloads.exists() or not [path for path in downloads.iterdir() if path.suffix != ".lock"]
    return str(error.value)


# files


def test_a_share_is_held_out_by_the_text_of_the_stories():
    write(Path("my.txt"), STORIES)
    prepare(params("files", train="my.txt", held_out=0.1))
    train, valid = sides()
    assert sorted(train + valid) == sorted(STORIES)
    assert valid == [
        story for story in STORIES if int(hashlib.sha256(story.encode()).hexdigest()[:16], 16) < 2**64 / 10
    ]
    assert 20 < len(valid) < 60
    detail = manifest()["detail"]
    assert detail == {"train": [entry("my.txt", Path("my.txt"), 400)], "held_out": 0.1}

    # Another order, line ends, copies and another seed leave each story on its side.
    write(Path("my.txt"), [story.replace("\n", "\r\n") for story in reversed(STORIES + STORIES[:50])])
    prepare(params("files", train="my.txt", held_out=0.1, seed=2))
    assert tuple(map(set, sides())) == (set(train), set(valid))
    assert manifest()["train"]["stories"] + manifest()["valid"]["stories"] == 450

    # A larger share holds out the same ones and more.
    prepare(params("files", train="my.txt", held_out=0.4))
    assert set(sides()[1]) > set(valid)


def test_both_files_given(capsys):
    write(Path("train.txt"), STORIES[:300])
    write(Path("valid.txt"), STORIES[290:])
    prepare(params("files", train="train.txt", valid=" valid.txt "))
    assert sides() == (STORIES[:300], STORIES[290:])
    assert manifest()["detail"] == {
        "train": [entry("train.txt", Path("train.txt"), 300)],
        "valid": [entry("valid.txt", Path("valid.txt"), 110)],
        "valid_also_in_train": 10,
    }
    assert "warning: 10 stories of data.files.valid stand in data.files.train too" in capsys.readouterr().out


def test_sides_without_a_common_story_give_no_warning(capsys):
    write(Path("train.txt"), STORIES[:300])
    write(Path("valid.txt"), STORIES[300:])
    prepare(params("files", train="train.txt", valid="valid.txt"))
    assert manifest()["detail"]["valid_also_in_train"] == 0
    assert "warning" not in capsys.readouterr().out


def test_globs_are_sorted_and_may_go_deep():
    write(Path("my/b.txt"), STORIES[100:200])
    write(Path("my/a.txt"), STORIES[:100])
    write(Path("my/c/d/e.txt"), STORIES[200:300])
    write(Path("my/f.md"), STORIES[300:])
    write(Path("valid.txt"), STORIES[300:])
    prepare(params("files", train="my/*.txt", valid="valid.txt"))
    assert sides()[0] == STORIES[:200]
    prepare(params("files", train="my/**/*.txt", valid="valid.txt"))
    assert sides()[0] == STORIES[:300]
    assert [file["path"] for file in manifest()["detail"]["train"]] == ["my/a.txt", "my/b.txt", "my/c/d/e.txt"]
    prepare(params("files", train="my/**", valid="valid.txt"))
    assert len(sides()[0]) == 400


def test_paths_are_seen_from_the_repository_and_from_home(here, tmp_path, monkeypatch):
    repository = tmp_path / "a [strange] *name"
    write(repository / "my/a.txt", STORIES[:100])
    write(repository / "my/[a].txt", STORIES[100:200])
    write(tmp_path / "home/b.txt", STORIES[200:])
    monkeypatch.setenv("DVC_ROOT", str(repository))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepare(params("files", train="my/*", valid="~/b.txt"))
    assert len(sides()[0]) == 200 and sides()[1] == STORIES[200:]
    prepare(params("files", train="my/[a].txt", valid=str(tmp_path / "home/*.txt")))
    assert sides() == (STORIES[100:200], STORIES[200:])
    assert RAW_TRAIN.absolute().is_relative_to(here)


def test_urls(url, tmp_path):
    write(tmp_path / "served/train.txt", STORIES[:300])
    write(tmp_path / "served/valid.txt", STORIES[300:])
    prepare(params("files", train=f"{url}/train.txt", valid=f"{url}/valid.txt"))
    assert sides() == (STORIES[:300], STORIES[300:])
    assert manifest()["detail"]["train"] == [entry(f"{url}/train.txt", tmp_path / "served/train.txt", 300)]
    assert {path.suffix for path in Path(".state/downloads").iterdir()} == {".lock"}


def test_what_a_killed_stage_had_downloaded_goes_with_the_next_one(url, tmp_path):
    write(tmp_path / "served/train.txt", STORIES)
    left = RAW_TRAIN.parent / ".downloads/0.txt"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    prepare(params("files", train=f"{url}/train.txt"))
    assert {path.name for path in RAW_TRAIN.parent.iterdir()} == {"train.txt", "valid.txt", "manifest.json"}


def test_url_problems(url, tmp_path):
    write(tmp_path / "served/page.html", STORIES)
    (tmp_path / "served/bad.txt").write_bytes(b"Lily \xff")
    assert problem(params("files", train=f"{url}/none.txt")).startswith(f"data.files.train: {url}/none.txt: the server")
    assert "data.files.train: " + url + "/page.html: found an HTML page" in problem(
        params("files", train=f"{url}/page.html")
    )
    assert problem(params("files", train=f"{url}/bad.txt")).startswith(
        f"data.files.train: {url}/bad.txt: not UTF-8 at byte 5"
    )
    for no_url in ("s3://bucket/a", "https:/host/a", "http:///a"):
        assert problem(params("files", train=no_url)).startswith("data.files.train: the URL cannot be understood")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"train": "none.txt"}, "data.files.train is 'none.txt'; no such file, seen from "),
        ({"train": "my.txt/none"}, "data.files.train is 'my.txt/none'; no such file"),
        ({"train": "none/*.txt"}, "data.files.train is 'none/*.txt'; no file matches it, seen from "),
        ({"train": "folder"}, "data.files.train is 'folder'; that is a directory; name its files, as in folder/*.txt"),
        ({"train": "folder/*"}, "data.files.train is 'folder/*'; no file matches it"),
        ({"train": "/dev/null"}, "data.files.train is '/dev/null'; that is no regular file"),
        ({"train": "x" * 5000}, "data.files.train is 'xxx"),
        ({"train": "~nobody-of-that-name/a"}, "data.files.train is '~nobody-of-that-name/a': "),
        ({"train": "empty.txt"}, "data.files.train: empty.txt: empty; expected stories, each ended by a line <|endof"),
        ({"train": "blank.txt"}, "data.files.train: blank.txt: no story; expected stories"),
        ({"train": "[be]*.txt"}, "data.files.train: blank.txt and 1 more: no story"),
        ({"train": "my.txt", "valid": "none.txt"}, "data.files.valid is 'none.txt'; no such file"),
        ({"train": "my.txt", "valid": "empty.txt"}, "data.files.valid: empty.txt: empty"),
        ({"train": "my.txt", "valid": "latin.txt"}, "data.files.valid: latin.txt: not UTF-8 at byte 3; save it as"),
        ({"train": "my.txt", "held_out": 1e-9}, "data.files.held_out is 1e-09; of the 400 stories in data.files.train"),
    ],
)
def test_what_is_wrong_with_files_is_said(section, message):
    write(Path("my.txt"), STORIES)
    Path("folder").mkdir()
    Path("empty.txt").touch()
    Path("blank.txt").write_bytes(b"\n<|endoftext|>\n\r\n<|endoftext|>")
    Path("latin.txt").write_bytes("Café".encode("latin-1"))
    assert message in problem(params("files", **section))


def test_an_unreadable_file_is_named(monkeypatch):
    if not Path("/proc/self/mem").is_file():
        pytest.skip("needs a file that opens but cannot be read: /proc/self/mem")
    assert "data.files.train: /proc/self/mem: not readable (Input/output error)" in problem(
        params("files", train="/proc/self/mem")
    )


def test_one_story_leaves_one_side_empty():
    write(Path("my.txt"), ["The only story."])
    assert "of the 1 stories in data.files.train that leaves none to " in problem(
        params("files", train="my.txt", held_out=0.5)
    )


def test_a_failure_takes_the_old_manifest_away():
    write(Path("my.txt"), STORIES)
    prepare(params("files", train="my.txt"))
    Path("my.txt").unlink()
    with pytest.raises(UserError):
        prepare(params("files", train="my.txt"))
    assert not RAW_MANIFEST.exists()


# embedded


def test_embedded_stories():
    prepare(params("embedded", seed=7, stories=1100))
    train, valid = sides()
    assert train == list(storygen.stories(7, 0, 1100))
    assert valid == list(storygen.stories(7, 1100, 22))
    assert manifest()["source"] == "embedded"
    assert manifest()["detail"] == {"generator": "tinystories.sources.storygen", "seed": 7}
    prepare(params("embedded", seed=7, stories=100))
    assert len(sides()[1]) == 20


# tinystories


@pytest.fixture
def official(url, tmp_path, monkeypatch):
    """A server with small stand-ins of the official files."""
    texts = [b"One.\n\n<|endoftext|>\nTwo.\n<|endoftext|>\n", b"Three. \n<|endoftext|>\n"]
    files = []
    for name, text, stories in zip(("train.txt", "valid.txt"), texts, (2, 1), strict=True):
        (tmp_path / "served" / name).write_bytes(text)
        files.append(OfficialFile(name, FileStats(len(text), stories, hashlib.sha256(text).hexdigest())))
    monkeypatch.setattr(OfficialFile, "url", property(lambda file: f"{url}/{file.name}"))
    monkeypatch.setitem(EDITIONS, "v2", tuple(files))
    return tmp_path / "served"


def test_the_official_bytes_are_kept(official):
    prepare(params("tinystories"))
    assert RAW_TRAIN.read_bytes() == (official / "train.txt").read_bytes()
    assert RAW_VALID.read_bytes() == (official / "valid.txt").read_bytes()
    found = json.loads(RAW_MANIFEST.read_text())
    assert found["detail"]["edition"] == "v2" and len(found["detail"]["revision"]) == 40
    assert found["train"] == {
        "bytes": 39,
        "stories": 2,
        "sha256": hashlib.sha256(RAW_TRAIN.read_bytes()).hexdigest(),
    }


def test_the_official_files_are_those_of_the_pinned_revision():
    for edition in EDITIONS.values():
        for file in edition:
            assert file.url == f"{sources.OFFICIAL}/resolve/{sources.REVISION}/{file.name}"
            assert len(file.size.sha256) == 64 and int(file.size.sha256, 16)
            assert 700 < file.size.bytes / file.size.stories < 1000


def test_what_to_do_without_the_official_server(official, monkeypatch):
    monkeypatch.setattr(download, "STALL_TIMEOUT", 0.2)
    (official / "train.txt").write_bytes(b"something else")
    message = problem(params("tinystories"))
    assert "127.0.0.1" in message and "`make quickstart`" in message and "data.source=files" in message


def test_too_small_a_disk_is_said_before(official, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    message = problem(params("tinystories"))
    assert "0.0 GB free on this disk; the download needs 0.0 GB, and what DVC keeps of it twice as much" in message
    assert not (Path(".state/downloads")).exists()


def test_what_has_arrived_needs_no_space_again(official, monkeypatch):
    part = part_file(EDITIONS["v2"][0].url)
    part.parent.mkdir(parents=True)
    part.write_bytes((official / "train.txt").read_bytes())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=30))
    prepare(params("tinystories"))
    assert RAW_TRAIN.read_bytes() == (official / "train.txt").read_bytes()


# the stage


def test_the_stage_says_one_line_and_fails(here):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for old, new in (("source: tinystories", "source: files"), ('train: ""', "train: none.txt")):
        text = text.replace(old, new)
    Path("params.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, str(ROOT / "stages/download.py")]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "error"})
    assert result.returncode == 1
    assert result.stderr == f"error: data.files.train is 'none.txt'; no such file, seen from {here}\n"

    write(Path("none.txt"), STORIES)
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert manifest()["source"] == "files"
