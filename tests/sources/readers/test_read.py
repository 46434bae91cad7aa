"""Each format, each compression: the same documents, in bounded memory, and rows of odd but sound files."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from tests.support.corpora import COMPRESS, corpora, json_lines, parquet, table
from tests.support.sources import manifest, own, splits, write
from tinystories.common.console import ProgressBar
from tinystories.corpus.stories import MAX_STORY_BYTES
from tinystories.sources.prepare import prepare
from tinystories.sources.readers.parquet import BATCH_BYTES
from tinystories.sources.readers.read import UserFile

pytestmark = pytest.mark.usefixtures("here")

STORIES = ['Tom, a cat; sat.\n\n"Hello," said Lily.', "One day\tZoë “ran” 🐉.", "It was {so} [red].\nThe end.", "5"]


def read(path: Path, column: str = "text") -> list[str]:
    file = UserFile("data.files.train", str(path), path, column, "auto")
    file.check()
    return list(file.read(ProgressBar("", None, 0, None)))


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("ending", corpora(["x"]))
def test_prepare_files_formats(ending, compression):
    data = COMPRESS[compression](corpora(STORIES)[ending])
    path = Path(f"my stories ü{ending.upper() if ending == '.csv' else ending}{compression}")
    path.write_bytes(data)
    write(Path("valid.txt"), ["Another."])
    prepare(own(train=path.name, valid="valid.txt"))
    assert splits()[0] == STORIES
    (entry,) = manifest()["detail"]["train"]
    assert (entry["bytes"], entry["stories"]) == (len(data), 4)


def test_prepare_files_mixture_and_column(capsys):
    """A directory of files of each kind; rows without text are left out, and said."""
    for number, (ending, data) in enumerate(corpora(STORIES, "story").items()):
        Path(f"my/{number}").mkdir(parents=True)
        Path(f"my/{number}/a{ending}").write_bytes(data)
    rows = [{"story": text} for text in ("One.\n<|endoftext|>\nTwo.", None, " ", "\ufeffThree.\r\n")]
    Path("my/6.jsonl").write_bytes(b"\xef\xbb\xbf" + json_lines(rows) + b"\n")
    prepare(own(train="my", column="story", held_out=0.3))
    assert sorted(set(splits()[0] + splits()[1])) == sorted({*STORIES, "One.", "Two.", "Three."})
    assert manifest()["train"]["stories"] + manifest()["valid"]["stories"] == 6 * 4 + 3
    assert "warning: my/6.jsonl: 2 rows without text in 'story' left out" in capsys.readouterr().out


# Without the time, which would be another in each process that collects the tests.
MEMBERS = b"".join(gzip.compress(text, mtime=0) for text in (b"One.", b"<|endoftext|>Two."))


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("bom.csv", b'\xef\xbb\xbftext\r\nOne.\r\n\r\n"Two\r\nlines"\r\n', ["One.", "Two\nlines"]),
        ("semicolon.csv", b"id;text\n1;One, two.\n2;Three.\n", ["One, two.", "Three."]),
        ("tabs.csv", table([{"id": 1, "text": "One, two."}], "\t"), ["One, two."]),
        ("header.csv", b"text\n", []),
        ("empty.csv", b"", []),
        ("empty.jsonl.gz", b"", []),
        ("empty.jsonl", b"", []),
        ("last.jsonl", b'{"text": "One."}\n\n{"text": "Two."}', ["One.", "Two."]),
        ("members.txt.gz", MEMBERS, ["One.", "Two."]),
        ("no_ending", b"One.", ["One."]),
        ("story.md", b"# One\n\n- two\n", ["# One\n\n- two"]),
        ("json.txt", b'{"text": "One."}\n<|endoftext|>\n', ['{"text": "One."}']),
        ("prose.txt", b"text\nOne, two.\n", ["text\nOne, two."]),
        ("array.txt", b'["Yes," said Tom.', ['["Yes," said Tom.']),
        ("big.parquet", parquet([{"text": "One."}], pa.schema([("text", pa.large_string())])), ["One."]),
        (
            "names.parquet",
            parquet([{"text": "One."}] * 2, pa.schema([("text", pa.dictionary(pa.int8(), pa.string()))])),
            ["One."] * 2,
        ),
        ("none.parquet", parquet([], pa.schema([("text", pa.string())])), []),
    ],
)
def test_read_odd_but_sound_files(name, data, expected):
    Path(name).write_bytes(data)
    assert read(Path(name)) == expected


def test_read_parquet_streams():
    """One row group: far less at once than it holds."""
    story = "Once upon a time. " * 100
    rows = [{"text": f"{number} {story}"} for number in range(20_000)]
    Path("a.parquet").write_bytes(parquet(rows, row_group_size=10**6, use_dictionary=False, compression="none"))
    before = pa.default_memory_pool().bytes_allocated()
    file = UserFile("x", "a.parquet", Path("a.parquet"), "text", "auto")
    held = [
        pa.default_memory_pool().bytes_allocated() - before
        for number, _ in enumerate(file.read(ProgressBar("", None, 0, None)))
        if number % 1000 == 0
    ]
    assert Path("a.parquet").stat().st_size > 30e6 and max(held) < 4 * BATCH_BYTES


def test_read_refuses_a_document_that_later_stages_could_not_read():
    Path("a.jsonl").write_bytes(json.dumps({"text": "é" * (MAX_STORY_BYTES // 2 + 1)}, ensure_ascii=False).encode())
    with pytest.raises(Exception, match="line 1: a document of 16,777,218 bytes; expected at most 16,777,216"):
        read(Path("a.jsonl"))


def test_reading_text_needs_no_pyarrow():
    """It takes half a second to import."""
    write(Path("a.txt"), STORIES)
    code = "import sys; from tinystories.sources import files; assert 'pyarrow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
