"""Source `files`: the user's paths, globs and URLs, the held-out split, and what is refused."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.sources import STORIES, manifest, params, problem, splits, write
from tinystories.common.paths import RAW_TRAIN
from tinystories.sources.prepare import prepare

pytestmark = pytest.mark.usefixtures("here")


def entry(name: str, path: Path, stories: int) -> dict[str, Any]:
    data = path.read_bytes()
    return {"path": name, "bytes": len(data), "stories": stories, "sha256": hashlib.sha256(data).hexdigest()}


def test_prepare_files_holds_out_by_hash():
    write(Path("my.txt"), STORIES)
    prepare(params("files", train="my.txt", held_out=0.1))
    train, valid = splits()
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
    assert tuple(map(set, splits())) == (set(train), set(valid))
    assert manifest()["train"]["stories"] + manifest()["valid"]["stories"] == 450

    # A larger share holds out the same ones and more.
    prepare(params("files", train="my.txt", held_out=0.4))
    assert set(splits()[1]) > set(valid)


def test_prepare_files_both_given(capsys):
    write(Path("train.txt"), STORIES[:300])
    write(Path("valid.txt"), STORIES[290:])
    prepare(params("files", train="train.txt", valid=" valid.txt "))
    assert splits() == (STORIES[:300], STORIES[290:])
    assert manifest()["detail"] == {
        "train": [entry("train.txt", Path("train.txt"), 300)],
        "valid": [entry("valid.txt", Path("valid.txt"), 110)],
        "valid_also_in_train": 10,
    }
    assert "warning: 10 stories of data.files.valid stand in data.files.train too" in capsys.readouterr().out


def test_prepare_files_no_overlap_no_warning(capsys):
    write(Path("train.txt"), STORIES[:300])
    write(Path("valid.txt"), STORIES[300:])
    prepare(params("files", train="train.txt", valid="valid.txt"))
    assert manifest()["detail"]["valid_also_in_train"] == 0
    assert "warning" not in capsys.readouterr().out


def test_prepare_files_globs_sorted_and_deep():
    write(Path("my/b.txt"), STORIES[100:200])
    write(Path("my/a.txt"), STORIES[:100])
    write(Path("my/c/d/e.txt"), STORIES[200:300])
    write(Path("my/f.md"), STORIES[300:])
    write(Path("valid.txt"), STORIES[300:])
    prepare(params("files", train="my/*.txt", valid="valid.txt"))
    assert splits()[0] == STORIES[:200]
    prepare(params("files", train="my/**/*.txt", valid="valid.txt"))
    assert splits()[0] == STORIES[:300]
    assert [file["path"] for file in manifest()["detail"]["train"]] == ["my/a.txt", "my/b.txt", "my/c/d/e.txt"]
    prepare(params("files", train="my/**", valid="valid.txt"))
    assert len(splits()[0]) == 400


def test_prepare_files_paths_from_root_and_home(here, tmp_path, monkeypatch):
    repository = tmp_path / "a [strange] *name"
    write(repository / "my/a.txt", STORIES[:100])
    write(repository / "my/[a].txt", STORIES[100:200])
    write(tmp_path / "home/b.txt", STORIES[200:])
    monkeypatch.setenv("DVC_ROOT", str(repository))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepare(params("files", train="my/*", valid="~/b.txt"))
    assert len(splits()[0]) == 200 and splits()[1] == STORIES[200:]
    prepare(params("files", train="my/[a].txt", valid=str(tmp_path / "home/*.txt")))
    assert splits() == (STORIES[100:200], STORIES[200:])
    assert RAW_TRAIN.absolute().is_relative_to(here)


def test_prepare_files_urls(url, tmp_path):
    write(tmp_path / "served/train.txt", STORIES[:300])
    write(tmp_path / "served/valid.txt", STORIES[300:])
    prepare(params("files", train=f"{url}/train.txt", valid=f"{url}/valid.txt"))
    assert splits() == (STORIES[:300], STORIES[300:])
    assert manifest()["detail"]["train"] == [entry(f"{url}/train.txt", tmp_path / "served/train.txt", 300)]
    assert {path.suffix for path in Path(".state/downloads").iterdir()} == {".lock"}


def test_prepare_files_removes_killed_download(url, tmp_path):
    write(tmp_path / "served/train.txt", STORIES)
    left = RAW_TRAIN.parent / ".downloads/0.txt"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    prepare(params("files", train=f"{url}/train.txt"))
    assert {path.name for path in RAW_TRAIN.parent.iterdir()} == {"train.txt", "valid.txt", "manifest.json"}


def test_prepare_files_url_errors(url, tmp_path):
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
def test_prepare_files_errors(section, message):
    write(Path("my.txt"), STORIES)
    Path("folder").mkdir()
    Path("empty.txt").touch()
    Path("blank.txt").write_bytes(b"\n<|endoftext|>\n\r\n<|endoftext|>")
    Path("latin.txt").write_bytes("Café".encode("latin-1"))
    assert message in problem(params("files", **section))


def test_prepare_files_unreadable_file(monkeypatch):
    if not Path("/proc/self/mem").is_file():
        pytest.skip("needs a file that opens but cannot be read: /proc/self/mem")
    assert "data.files.train: /proc/self/mem: not readable (Input/output error)" in problem(
        params("files", train="/proc/self/mem")
    )


def test_prepare_files_one_story_leaves_a_split_empty():
    write(Path("my.txt"), ["The only story."])
    assert "of the 1 stories in data.files.train that leaves none to " in problem(
        params("files", train="my.txt", held_out=0.5)
    )
