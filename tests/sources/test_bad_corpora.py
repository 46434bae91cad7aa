"""Corpora that cannot be trained on: one clear line within two seconds, and nothing half-written."""

import bz2
import gzip
import json
import lzma
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.corpora import corpora, json_lines, parquet, table, text, zstd
from tests.support.sources import STORIES, own, problem, write
from tinystories.corpus import stories
from tinystories.sources.prepare import prepare

pytestmark = pytest.mark.usefixtures("here")

ROWS = [{"id": number, "text": story} for number, story in enumerate(STORIES)]
NOISE = bytes(number * number % 251 for number in range(9000))
PARQUET = parquet([{"text": story} for story in STORIES])
BROKEN = 'id,text\n1,Once.\n2,"She said "Hello" to Tom."\n3,End.\n'


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zstd_with_dictionary() -> bytes:
    """A frame that names a dictionary which nobody has."""
    return bytes.fromhex("28b52ffd 21 07 05 29 0000") + b"Once!"


def holding(schema: Any, *rows: Any) -> bytes:
    return parquet([{"text": row} for row in rows], pa.schema([("text", schema)]))


# Name, content, and what the message says after `data.files.train: NAME: `.
FILES: list[tuple[str, bytes, str]] = [
    # compression
    ("half.txt.gz", half(gzip.compress(NOISE)), "cut off: its gzip data end too early; copy or download it again"),
    ("half.txt.bz2", half(bz2.compress(NOISE)), "cut off: its bzip2 data end too early"),
    ("half.txt.xz", half(lzma.compress(NOISE)), "cut off: its xz data end too early"),
    ("half.txt.zst", half(zstd(NOISE)), "cut off: its zstd data cannot be read (Truncated compressed stream)"),
    ("half.jsonl.gz", gzip.compress(json_lines(ROWS))[:-9], "cut off: its gzip data end too early"),
    ("half.parquet.gz", half(gzip.compress(PARQUET)), "cut off: its gzip data end too early"),
    ("flipped.txt.gz", gzip.compress(text(STORIES))[:-8] + b"\0" * 8, "damaged: its gzip data cannot be read (CRC"),
    ("tail.txt.gz", gzip.compress(text(STORIES)) + b"tail", "damaged: its gzip data cannot be read (Not a gzipped"),
    ("head.txt.bz2", b"BZh9" + NOISE, "damaged: its bzip2 data cannot be read (Invalid data stream)"),
    ("head.txt.xz", b"\xfd7zXZ\0" + NOISE, "damaged: its xz data cannot be read ("),
    ("head.txt.zst", b"\x28\xb5\x2f\xfd" + NOISE, "damaged: its zstd data cannot be read (ZSTD decompress failed"),
    ("dictionary.txt.zst", zstd_with_dictionary(), "damaged: its zstd data cannot be read (ZSTD decompress failed: Di"),
    ("none.txt.gz", text(STORIES), "no gzip data; looks like a file that is not compressed; run: mv none.txt.gz none."),
    ("noise.txt.zst", NOISE, "no zstd data; looks like binary data, with a zero at byte 0; expected text"),
    ("latin.txt.gz", b"caf\xe9 au lait", "no gzip data; copy or download it again"),
    ("inner.jsonl.gz", gzip.compress(text(STORIES)), "line 1 is no JSON (Expecting value): 'Story 0.'; expected an ob"),
    ("inner.parquet.gz", gzip.compress(text(STORIES)), "no Parquet data, looks like text"),
    # text
    ("utf16.txt", "Once.".encode("utf-16"), "looks like UTF-16 text; expected text"),
    ("utf16be.txt", ("Once upon a time. " * 9).encode("utf-16-be"), "looks like UTF-16 text; expected text, "),
    ("latin.txt", b"Once.\n<|endoftext|>\nCaf\xe9.", "not UTF-8 at byte 23; save it as UTF-8, or if it is from an old"),
    ("cut.txt", text(STORIES) + "é".encode()[:1], "not UTF-8 at byte"),
    ("zero.txt", b"Once.\0\n<|endoftext|>\nTwice.", "looks like binary data, with a zero at byte 5; expected text,"),
    ("late.txt", b"Once.\n<|endoftext|>\n" * 9999 + b"Twi\0ce.", "document 10,000 has a zero byte in it; expected tex"),
    ("zeros.txt", bytes(9999), "looks like binary data, with a zero at byte 0"),
    ("novel.txt", b"Once.\n\nTwice.\n\n", "no <|endoftext|> in 15 bytes, so it is one document and leaves none to val"),
    ("separators.txt", b"<|endoftext|>\n" * 9, "no text; expected documents"),
    ("bom.txt", b"\xef\xbb\xbf", "no text; expected documents"),
    ("lines.txt", json_lines(ROWS), "looks like JSON lines, which its name should say; run: mv lines.txt lines.jsonl"),
    ("table.txt", table(ROWS), "looks like CSV, which its name should say; run: mv table.txt table.csv"),
    # JSON lines
    ("cut.jsonl", json_lines(ROWS)[:-9], "line 400, the last one, is cut off or is no JSON (Unterminated string start"),
    ("middle.jsonl", b'{"text": "a"}\n{"text": "b\n{"text": "c"}\n', 'line 2 is no JSON (Invalid control character at'),
    ("array.jsonl", json.dumps(ROWS).encode(), "looks like a JSON array; expected text, JSON lines, CSV or Parquet; r"),
    ("arrays.jsonl", b'["Once."]\n["Twice."]\n', "line 1 is a list: '[\"Once.\"]'; expected an object in each line, a"),
    ("strings.jsonl", b'"Once."\n', "line 1 is a text: '\"Once.\"'; expected an object"),
    ("key.jsonl", json_lines([{"id": 1, "story": "Once."}]), "line 1: no 'text', found 'id', 'story'; expected a "
     "column of texts, such as -S data.files.column=story"),
    ("odd key.jsonl", json_lines([{"a 'b'": "Once."}]), "line 1: no 'text', found \"a 'b'\"; expected a column of tex"),
    ("number.jsonl", json_lines([{"text": "Once."}, {"text": 5}]), "line 2: 'text' is a number; expected the document"),
    ("list.jsonl", json_lines([{"text": ["Once."]}]), "line 1: 'text' is a list; expected the documents in one column"),
    ("surrogate.jsonl", b'{"text": "a\\ud83d"}\n', "line 1: half a character ('\\ud83d') in 'text'"),
    ("zero.jsonl", b'{"text": "a\\u0000"}\n', "line 1: a zero byte in 'text'; expected text"),
    ("latin.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', "not UTF-8 at byte 27 (line 2); save it as UTF-8"),
    ("deep.jsonl", b'{"text": ' + b"[" * 99_999 + b"\n", "line 1 is no JSON (nested too deeply): '{\"text\": [[["),
    ("nulls.jsonl", json_lines([{"text": None}, {"text": " "}]), "no text; expected documents"),
    ("text.jsonl", text(STORIES), "line 1 is no JSON (Expecting value): 'Story 0.'; expected an object in each line"),
    ("table.jsonl", table(ROWS), "line 1 is no JSON (Expecting value): 'id,text'; expected an object in each line"),
    # CSV
    ("quotes.csv", BROKEN.encode(), "the row at line 3: broken quotes (',' expected after '\"'); a quote within a quo"),
    ("open.csv", b'id,text\n1,"Once.\n2,Twice.\n', "the row at line 2: a quote is never closed; a quote within a quot"),
    ("cells.csv", b"id,text\n1,Once.\n2,Hello, said Tom.\n", "the row at line 3 has 3 cells, and the header 2; a cell"),
    ("column.csv", b"id,story\n1,Once.\n", "line 1, the header: no 'text', found 'id', 'story'; expected a column of"),
    ("no_header.csv", b'1,Once.\n2,"Twice, I say."\n', "line 1, the header: no 'text', found '1', 'Once.'; expected a"),
    ("twice.csv", b"text,text\n1,Once.\n", "line 1, the header: two columns 'text'"),
    ("numbers.csv", b"text,story\n1,Once.\n-2.5e3,Twice.\n", "'text' is a column of numbers, 1 first; expected a colu"),
    ("latin.csv", b"id,text\n1,caf\xe9\n", "not UTF-8 at byte 13 (line 2)"),
    ("lines.csv", json_lines(ROWS), "looks like JSON lines, which its name should say; run: mv lines.csv lines.jsonl"),
    ("prose.csv", b"Once upon a time, Lily ran.\nThe end.\n", "line 1, the header: no 'text', found 'Once upon a time"),
    ("commas.tsv", table(ROWS), "line 1, the header: no 'text', found 'id,text'; expected a column of texts, such as"),
    # Parquet
    ("half.parquet", half(PARQUET), "damaged or cut off: no Parquet can be read from it (Parquet magic bytes not foun"),
    ("pages.parquet", PARQUET[:4] + bytes(40) + PARQUET[44:], "damaged or cut off: no Parquet can be read from it ("),
    ("text.parquet", text(STORIES), "no Parquet data, looks like text"),
    ("lines.parquet", json_lines(ROWS), "looks like JSON lines, which its name should say; run: mv lines.parquet line"),
    ("noise.parquet", b"\1" + NOISE[1:], "looks like binary data, with a zero at byte"),
    ("empty.parquet", b"", "damaged or cut off: no Parquet can be read from it (Parquet file size is 0 bytes)"),
    ("column.parquet", parquet([{"id": 1, "story": "Once."}]), "no column 'text', found 'id', 'story'; expected a "
     "column of texts, such as -S data.files.column=story"),
    ("numbers.parquet", holding(pa.int64(), 1, 2), "column 'text' holds int64; expected the documents in one column o"),
    ("nulls.parquet", holding(pa.null(), None), "column 'text' holds null; expected the documents in one column of te"),
    ("lists.parquet", holding(pa.list_(pa.string()), ["Once."]), "column 'text' holds list<element: string>; expected"),
    ("blank.parquet", holding(pa.string(), None, " "), "no text; expected documents"),
    ("bytes.parquet", holding(pa.binary(), b"Once."), "column 'text' holds binary; expected the documents in one colu"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "message"), FILES, ids=[name for name, _, _ in FILES])
def test_prepare_files_refuses(name, data, message):
    Path(name).write_bytes(data)
    start = time.process_time()
    assert problem(own(train=name)).startswith(f"data.files.train: {name}: {message}")
    assert time.process_time() - start < 2


FIFO = 1
SEPARATED = text(STORIES)
# What lies where: bytes of a file, what a link leads to, a FIFO, or an empty directory.
PLACES: list[tuple[dict[str, Any], str]] = [
    ({"my": None}, "data.files.train is 'my'; no documents in it"),
    ({"my/.hidden.txt": SEPARATED, "my/.DS_Store": b"\0"}, "data.files.train is 'my'; no documents in it"),
    ({"my": b""}, "data.files.train: my: empty; expected documents"),
    ({"my": "nowhere"}, "data.files.train is 'my'; a link that leads nowhere, seen from /"),
    ({"my/a.txt": "nowhere"}, "data.files.train: my/a.txt: a link that leads nowhere"),
    ({"my/loop": "."}, "data.files.train: my/loop is a link to a directory, where DVC does not look; move or copy "),
    ({"my": "my"}, "data.files.train is 'my'"),
    ({"my": FIFO}, "data.files.train is 'my'; no regular file"),
    ({"my/a.txt": FIFO}, "data.files.train: my/a.txt: no regular file"),
    ({f"my/{number}.txt": b"" for number in range(200)}, "data.files.train: my/0.txt and 199 more: empty"),
    (
        {"my/a b [ü]*.txt": SEPARATED, "my/cover.png": b"\x89PNG\r\n\x1a\n\0"},
        "data.files.train: my/cover.png: looks like binary data, with a zero at byte 8",
    ),
    (
        {"my/a.txt": SEPARATED, "my/z.jsonl": b'{"text": 1}'},
        "data.files.train: my/z.jsonl: line 1: 'text' is a number",
    ),
]


@pytest.mark.parametrize(("place", "message"), PLACES)
def test_prepare_files_refuses_places(place, message):
    for name, content in place.items():
        Path(name).parent.mkdir(exist_ok=True)
        if content is None:
            Path(name).mkdir()
        elif content is FIFO:
            os.mkfifo(name)
        elif isinstance(content, bytes):
            Path(name).write_bytes(content)
        else:
            Path(name).symlink_to(content)
    start = time.process_time()
    assert problem(own(train="my")).startswith(message)
    assert time.process_time() - start < 2


def test_prepare_files_unreadable(monkeypatch):
    """Also as root, who may read what others may not."""
    write(Path("my/a.txt"), STORIES)
    opened = Path.open

    def refuse(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == "a.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert problem(own(train="my")) == "data.files.train: my/a.txt: not readable (Permission denied)"


@pytest.mark.parametrize("ending", corpora(["x"]))
def test_prepare_files_changing_file(ending, monkeypatch):
    """Something still writes it: whether what was read is whole, nobody knows."""
    path = Path(f"my{ending}")
    path.write_bytes(corpora(STORIES * 50)[ending])
    name = "stories_in" if ending == ".txt" else "stories_of"
    original = getattr(stories, name)

    def changing(*args: Any) -> Any:
        os.utime(path)
        return original(*args)

    monkeypatch.setattr(f"tinystories.sources.readers.read.{name}", changing)
    assert problem(own(train=path.name)).endswith(
        "changed while it was read; run again when nothing writes it any more"
    )


def test_prepare_files_keeps_the_full_disk_apart(monkeypatch):
    """An error of what is written is none of what is read."""
    write(Path("my.txt"), STORIES)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tinystories.corpus.stories.StoryWriter._flush", full)
    with pytest.raises(OSError) as error:
        prepare(own(train="my.txt", held_out=0.1))
    assert error.value.errno == 28 and "data/raw" in str(error.value.filename)
    assert not [path for path in Path("data").rglob("*") if path.is_file()]


def test_prepare_files_unpacks_where_the_output_goes():
    """Parquet within gzip needs a file to seek in; none of it stays."""
    Path("my.parquet.gz").write_bytes(gzip.compress(PARQUET))
    prepare(own(train="my.parquet.gz", held_out=0.1))
    assert {path.name for path in Path("data/raw").iterdir()} == {"train.txt", "valid.txt", "manifest.json"}
