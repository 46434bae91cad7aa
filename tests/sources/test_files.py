"""Source `files`: which files are read, in which order, the held-out split, and what is refused."""

import hashlib
import io
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sources import STORIES, manifest, own, problem, splits, write
from tinystories.common.paths import RAW_TRAIN
from tinystories.corpus.stories import stories_in, stories_of
from tinystories.sources import files
from tinystories.sources.prepare import prepare
from tinystories.sources.readers.text import BOUNDARIES

pytestmark = pytest.mark.usefixtures("here")


def entry(name: str, path: Path, stories: int) -> dict[str, Any]:
    data = path.read_bytes()
    return {"path": name, "bytes": len(data), "stories": stories, "sha256": hashlib.sha256(data).hexdigest()}


def test_prepare_files_holds_out_by_hash():
    write(Path("my.txt"), STORIES)
    prepare(own(train="my.txt", held_out=0.1))
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
    prepare(own(train="my.txt", held_out=0.1, seed=2))
    assert tuple(map(set, splits())) == (set(train), set(valid))
    assert manifest()["train"]["stories"] + manifest()["valid"]["stories"] == 450

    # A larger share holds out the same ones and more.
    prepare(own(train="my.txt", held_out=0.4))
    assert set(splits()[1]) > set(valid)


def test_prepare_files_both_given(capsys):
    write(Path("train.txt"), STORIES[:300])
    write(Path("valid.txt"), STORIES[290:])
    prepare(own(train="train.txt", valid=" valid.txt "))
    assert splits() == (STORIES[:300], STORIES[290:])
    assert manifest()["detail"] == {
        "train": [entry("train.txt", Path("train.txt"), 300)],
        "valid": [entry("valid.txt", Path("valid.txt"), 110)],
        "valid_also_in_train": 10,
    }
    assert "warning: 10 documents of data.files.valid stand in the others too" in capsys.readouterr().out


def test_prepare_files_no_overlap_no_warning(capsys):
    write(Path("train.txt"), STORIES[:300])
    write(Path("valid.txt"), STORIES[300:])
    prepare(own(train="train.txt", valid="valid.txt"))
    assert manifest()["detail"]["valid_also_in_train"] == 0
    assert "warning" not in capsys.readouterr().out


def test_prepare_files_directories_sorted_and_deep():
    write(Path("my/b.txt"), STORIES[100:200])
    write(Path("my/a.txt"), STORIES[:100])
    write(Path("my/c/d/e.txt"), STORIES[200:300])
    write(Path("valid.txt"), STORIES[300:])
    for train, count in (("my", 300), ("./my//c", 100), ("my/a.txt", 100)):
        prepare(own(train=train, valid="valid.txt"))
        assert len(splits()[0]) == count
    prepare(own(train="my/", valid="valid.txt"))
    assert splits()[0] == STORIES[:300]
    assert [file["path"] for file in manifest()["detail"]["train"]] == ["my/a.txt", "my/b.txt", "my/c/d/e.txt"]


def test_prepare_files_of_one_place(here, tmp_path):
    """One file, or a directory, elsewhere, too; what validates is not trained on; hidden files and DVC's are none."""
    place = tmp_path / "a [strange] *name? ü"
    write(place / "a.txt", STORIES[:100])
    write(place / "[a].txt", STORIES[100:200])
    write(place / "valid" / "b.txt", STORIES[200:])
    for name in (".DS_Store", "a.txt.dvc", ".gitignore", ".hidden/a.txt"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(b"\0\1")
    prepare(own(train=str(place), valid=str(place / "valid")))
    assert splits() == (STORIES[100:200] + STORIES[:100], STORIES[200:])
    prepare(own(train=str(place / "[a].txt"), valid=f" {place / 'valid/b.txt'} "))
    assert splits() == (STORIES[100:200], STORIES[200:])
    prepare(own(train=str(place / "a.txt"), held_out=0.1))
    assert sum(map(len, splits())) == 100
    assert RAW_TRAIN.absolute().is_relative_to(here)
    (here / "link").symlink_to(place)
    prepare(own(train="link", valid=str(place / "valid")))
    assert [file["path"] for file in manifest()["detail"]["train"]] == ["link/[a].txt", "link/a.txt"]


@pytest.mark.parametrize("pieces", [1, 7, 200])
def test_prepare_files_however_the_corpus_is_cut(pieces):
    """In the order of the files' names, byte by byte, whatever the order in which they were made."""
    numbers = list(range(pieces))
    random.Random(0).shuffle(numbers)
    for number in numbers:
        write(Path(f"my/part-{number:05}.txt"), STORIES[400 * number // pieces : 400 * (number + 1) // pieces])
    prepare(own(train="my", held_out=0.1))
    train, valid = splits()
    held_out = {story for story in STORIES if int(hashlib.sha256(story.encode()).hexdigest()[:16], 16) < 2**64 / 10}
    assert valid == [story for story in STORIES if story in held_out]
    assert train == [story for story in STORIES if story not in held_out]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"train": "none.txt"}, "data.files.train is 'none.txt'; no such file or directory, seen from /"),
        ({"train": "my.txt/none"}, "data.files.train is 'my.txt/none'; no such file or directory"),
        ({"train": "*.txt"}, "data.files.train is '*.txt'; no such file or directory"),
        ({"train": "/dev/null"}, "data.files.train is '/dev/null'; no regular file, seen from"),
        ({"train": "x" * 5000}, "data.files.train is 'xxx"),
        ({"train": "folder"}, "data.files.train is 'folder'; no documents in it; put files there, or give another pla"),
        ({"train": "deep", "valid": "deep/a.txt"}, "no documents in it besides those of data.files.valid"),
        (
            {"train": "https://host.example/a%20b/my'.txt"},
            'data.files.train is "https://host.example/a%20b/my\'.txt"; a path is expected, because DVC watches '
            "files; run: dvc import-url 'https://host.example/a%20b/my'\"'\"'.txt' 'data/own/train/my'\"'\"'.txt'",
        ),
        (
            {"train": "my.txt", "valid": "s3://bucket/a"},
            "run: dvc import-url s3://bucket/a data/own/valid/a and give data.files.valid=data/own/valid/a",
        ),
        ({"train": "empty.txt"}, "data.files.train: empty.txt: empty; expected documents"),
        ({"train": "blank.txt"}, "data.files.train: blank.txt: no text; expected documents"),
        ({"train": "blanks"}, "data.files.train: blanks/a.txt and 1 more: no text"),
        ({"train": "my.txt", "valid": "no.txt"}, "data.files.valid is 'no.txt'; no such file or directory"),
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
    write(Path("deep/a.txt"), STORIES)
    Path("folder").mkdir()
    Path("empty.txt").touch()
    write(Path("blanks/a.txt"), [" "])
    write(Path("blanks/b.txt"), ["", ""])
    Path("blank.txt").write_bytes(b"\n<|endoftext|>\n\r\n<|endoftext|>")
    Path("latin.txt").write_bytes("Café".encode("latin-1"))
    assert message in problem(own(**section))


def test_prepare_files_of_a_copy_without_them(tmp_path, monkeypatch):
    """As in `dvc exp run --temp`, which copies what git and DVC know."""
    write(tmp_path / "root/data/own/a.txt", STORIES)
    Path("own").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    (tmp_path / "root/own").mkdir()
    assert "--temp and --queue see what git and DVC know, not the files in " in problem(own(train="own"))


def test_prepare_files_unreadable_file(monkeypatch):
    if not Path("/proc/self/mem").is_file():
        pytest.skip("needs a file that opens but cannot be read: /proc/self/mem")
    assert "data.files.train: /proc/self/mem: not readable (Input/output error)" in problem(own(train="/proc/self/mem"))


def test_prepare_files_one_story_leaves_a_split_empty():
    write(Path("my.txt"), ["The only story.", ""])
    message = problem(own(train="my.txt", held_out=0.5))
    assert "of 1 document in data.files.train; give more documents or data.files.valid" in message
    assert "dvc exp run" not in message


def held_out_share(message: str) -> float:
    return float(message.split("dvc exp run -S data.files.held_out=")[1])


@pytest.mark.parametrize("count", [5, 20])
def test_prepare_files_suggests_a_share_that_works(count):
    write(Path("my.txt"), STORIES[:count])
    share = held_out_share(problem(own(train="my.txt", held_out=1e-9)))
    prepare(own(train="my.txt", held_out=share))
    assert all(splits()) and len([*splits()[0], *splits()[1]]) == count


def test_prepare_files_suggests_a_lower_share():
    low = [story for story in STORIES if hashlib.sha256(story.encode()).digest()[0] < 100]
    write(Path("my.txt"), low)
    message = problem(own(train="my.txt", held_out=0.5))
    assert f"that leaves none to train on of {len(low)} documents" in message
    prepare(own(train="my.txt", held_out=held_out_share(message)))
    assert all(splits())


def test_prepare_files_one_document_a_file():
    """No file has a separator, and some are larger than one that stands alone may be."""
    for number in range(20):
        write(Path(f"my/{number}.txt"), [f"Book {number}.\n\n" + "The end. " * (200_000 if number == 3 else 2)])
    prepare(own(train="my", held_out=0.2))
    assert sum(map(len, splits())) == 20 and all(splits())
    assert [file["stories"] for file in manifest()["detail"]["train"]] == [1] * 20


@pytest.mark.parametrize(
    ("text", "piece", "documents"),
    [
        ("One.\nTwo.\nThree.\n", "line", "lines"),
        ("One\ntwo.\n\nThree.\n \nFour.\n", "paragraph", "blank_lines"),
        ("One\r\ntwo.\r\n\r\n\r\nThree.\r\n\r\n", "paragraph", "blank_lines"),
    ],
)
def test_prepare_files_no_separator(text, piece, documents):
    """The option in the message separates the documents."""
    Path("my text.txt").write_text(text, newline="")
    message = problem(own(train="my text.txt", held_out=0.5))
    count = len(text.encode())
    found = f"my text.txt: no <|endoftext|> in {count} bytes, so it is one document and leaves none to validate on; "
    assert message.startswith(f"data.files.train: {found}")
    assert f"where each {piece} is one, add -S data.files.documents={documents}; " in message
    write(Path("valid.txt"), ["Another."])
    prepare(own(train="my text.txt", valid="valid.txt", documents=documents))
    pattern = r"\n" if documents == "lines" else r"\n ?\n"
    assert splits()[0] == [part.strip() for part in re.split(pattern, text.replace("\r", "").strip()) if part.strip()]


@given(st.lists(st.sampled_from(["a", "é", "\n", "\r\n", " ", "\t", "<|endoftext|>"])), st.integers(1, 20))
def test_boundaries_split_wherever_blocks_end(parts, block_size):
    data = "".join(parts).encode()
    for boundary in BOUNDARIES.values():
        found = list(stories_in(io.BytesIO(data), "x", boundary, block_size=block_size))
        assert found == stories_of(data.decode(), boundary)


def test_prepare_files_no_separator_beside_validation_files(monkeypatch):
    """A single document is taken where it is small, or ends with the separator."""
    monkeypatch.setattr(files, "MAX_UNSEPARATED_BYTES", 1000)
    write(Path("valid.txt"), ["Another."])
    write(Path("my.txt"), ["Once. " * 100])
    prepare(own(train="my.txt", valid="valid.txt"))
    assert splits() == (["Once. " * 99 + "Once."], ["Another."])
    for key, names in (("train", ("my.txt", "valid.txt")), ("valid", ("valid.txt", "my.txt"))):
        write(Path("my.txt"), ["Once. " * 500])
        shutil.rmtree("data")
        message = problem(own(train=names[0], valid=names[1]))
        assert message.startswith(f"data.files.{key}: my.txt: no <|endoftext|> in 3,000 bytes, so it is one document; ")
        assert message.endswith("if it is one, end it with that line, too")
        write(Path("my.txt"), ["Once. " * 500, ""])
        prepare(own(train=names[0], valid=names[1]))


def test_prepare_files_no_separator_in_a_huge_file(monkeypatch):
    """Only its beginning is read for that."""
    monkeypatch.setattr(files, "MAX_STORY_BYTES", 1001)
    Path("my.txt").write_text("é" * 5000)
    assert "my.txt: no <|endoftext|> in its first 1,001 bytes" in problem(own(train="my.txt"))


@pytest.mark.parametrize(
    ("count", "found"), [(1, "1 document to train on (0.0 kB)"), (3, "3 documents to train on (0.1 kB)")]
)
def test_prepare_counts_agree_in_number(capsys, count, found):
    write(Path("my.txt"), STORIES[:count])
    write(Path("valid.txt"), STORIES[:1])
    prepare(own(train="my.txt", valid="valid.txt"))
    output = capsys.readouterr().out
    assert output.endswith("), 1 to validate on\n") and found in output
    assert "warning: 1 document of data.files.valid stands in the others too" in output
