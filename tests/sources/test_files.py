"""Source `files`: the user's paths and globs, the held-out split, and what is refused."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.sources import STORIES, manifest, params, problem, splits, write
from tinystories.common.paths import RAW_TRAIN
from tinystories.sources import files
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
    assert "warning: 10 documents of data.files.valid stand in data.files.train too" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"train": "none.txt"}, "data.files.train is 'none.txt'; no such file, seen from "),
        ({"train": "my.txt/none"}, "data.files.train is 'my.txt/none'; no such file"),
        ({"train": "none/*.txt"}, "data.files.train is 'none/*.txt'; no file matches it, seen from "),
        ({"train": "folder"}, "data.files.train is 'folder'; that is a directory; name its files, as in folder/*.txt"),
        ({"train": "folder/*"}, "data.files.train is 'folder/*'; no file matches it"),
        ({"train": "/dev/null"}, "data.files.train is '/dev/null'; that is no regular file"),
        (
            {"train": "https://host.example/a%20b/my'.txt"},
            'data.files.train is "https://host.example/a%20b/my\'.txt"; a path is expected, because DVC watches files; '
            "files; run: dvc import-url 'https://host.example/a%20b/my'\"'\"'.txt' data/own/",
        ),
        ({"train": "my.txt", "valid": "s3://bucket/a"}, "dvc import-url s3://bucket/a data/own/a and give data/own/a"),
        ({"train": "x" * 5000}, "data.files.train is 'xxx"),
        ({"train": "~nobody-of-that-name/a"}, "data.files.train is '~nobody-of-that-name/a': "),
        ({"train": "empty.txt"}, "data.files.train: empty.txt: empty; expected documents, each ended by a line <|end"),
        ({"train": "blank.txt"}, "data.files.train: blank.txt: no text; expected documents"),
        ({"train": "[be]*.txt"}, "data.files.train: blank.txt and 1 more: no text"),
        ({"train": "my.txt", "valid": "none.txt"}, "data.files.valid is 'none.txt'; no such file"),
        ({"train": "my.txt", "valid": "empty.txt"}, "data.files.valid: empty.txt: empty"),
        ({"train": "my.txt", "valid": "latin.txt"}, "data.files.valid: latin.txt: not UTF-8 at byte 3; save it as"),
        (
            {"train": "my.txt", "held_out": 1e-9},
            "data.files.held_out is 1e-09; that leaves none to validate on of 400",
        ),
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
    write(Path("my.txt"), ["The only story.", ""])
    message = problem(params("files", train="my.txt", held_out=0.5))
    assert "of 1 document in data.files.train; give more documents or data.files.valid" in message
    assert "dvc exp run" not in message


def held_out_share(message: str) -> float:
    return float(message.split("dvc exp run -S data.files.held_out=")[1])


@pytest.mark.parametrize("count", [5, 20])
def test_prepare_files_suggests_a_share_that_works(count):
    write(Path("my.txt"), STORIES[:count])
    share = held_out_share(problem(params("files", train="my.txt", held_out=1e-9)))
    prepare(params("files", train="my.txt", held_out=share))
    assert all(splits()) and len([*splits()[0], *splits()[1]]) == count


def test_prepare_files_suggests_a_lower_share():
    low = [story for story in STORIES if hashlib.sha256(story.encode()).digest()[0] < 100]
    write(Path("my.txt"), low)
    message = problem(params("files", train="my.txt", held_out=0.5))
    assert f"that leaves none to train on of {len(low)} documents" in message
    prepare(params("files", train="my.txt", held_out=held_out_share(message)))
    assert all(splits())


def test_prepare_files_one_document_a_file():
    """No file has a separator, and some are larger than one that stands alone may be."""
    for number in range(20):
        write(Path(f"my/{number}.txt"), [f"Book {number}.\n\n" + "The end. " * (200_000 if number == 3 else 2)])
    prepare(params("files", train="my/*.txt", held_out=0.2))
    assert sum(map(len, splits())) == 20 and all(splits())
    assert [file["stories"] for file in manifest()["detail"]["train"]] == [1] * 20


@pytest.mark.parametrize("text", ["One.\nTwo.\nThree.\n", "One\ntwo.\n\nThree.\n\nFour.\n"])
def test_prepare_files_no_separator(here, text):
    """The command in the message separates the documents."""
    Path("my text.txt").write_text(text)
    message = problem(params("files", train="my text.txt", held_out=0.5))
    found = (
        f"my text.txt: no <|endoftext|> in {len(text)} bytes, so it is one document and leaves none to validate on; "
    )
    assert message.startswith(f"data.files.train: {found}")
    (command,) = re.findall(r"where each \w+ is one: (awk .*?)\), or give a file for each", message)
    subprocess.run(command, shell=True, check=True)
    write(Path("valid.txt"), ["Another."])
    prepare(params("files", train="my text.separated.txt", valid="valid.txt"))
    assert splits()[0] == re.split(r"\n\n" if "\n\n" in text else r"\n", text.strip())


def test_prepare_files_no_separator_beside_validation_files(monkeypatch):
    """A single document is taken where it is small, or ends with the separator."""
    monkeypatch.setattr(files, "MAX_UNSEPARATED_BYTES", 1000)
    write(Path("valid.txt"), ["Another."])
    write(Path("my.txt"), ["Once. " * 100])
    prepare(params("files", train="my.txt", valid="valid.txt"))
    assert splits() == (["Once. " * 99 + "Once."], ["Another."])
    for key, given in (("train", ("my.txt", "valid.txt")), ("valid", ("valid.txt", "my.txt"))):
        write(Path("my.txt"), ["Once. " * 500])
        shutil.rmtree("data")
        message = problem(params("files", train=given[0], valid=given[1]))
        assert message.startswith(f"data.files.{key}: my.txt: no <|endoftext|> in 3,000 bytes, so it is one document; ")
        assert message.endswith("if it is one, end it with that line, too")
        write(Path("my.txt"), ["Once. " * 500, ""])
        prepare(params("files", train=given[0], valid=given[1]))


def test_prepare_files_no_separator_in_a_huge_file(monkeypatch):
    """Only its beginning is read for that."""
    monkeypatch.setattr(files, "MAX_STORY_BYTES", 1001)
    Path("my.txt").write_text("é" * 5000)
    assert "my.txt: no <|endoftext|> in 10,000 bytes" in problem(params("files", train="my.txt"))


@pytest.mark.parametrize(
    ("count", "found"), [(1, "1 document to train on (0.0 kB)"), (3, "3 documents to train on (0.1 kB)")]
)
def test_prepare_counts_agree_in_number(capsys, count, found):
    write(Path("my.txt"), STORIES[:count])
    write(Path("valid.txt"), STORIES[:1])
    prepare(params("files", train="my.txt", valid="valid.txt"))
    output = capsys.readouterr().out
    assert output.endswith("), 1 to validate on\n") and found in output
    assert "warning: 1 document of data.files.valid stands in data.files.train too" in output
