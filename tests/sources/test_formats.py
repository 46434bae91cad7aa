"""Files of other formats are refused by name, with a command that converts them; text never is."""

import bz2
import csv
import gzip
import io
import json
import lzma
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.texts import STORIES as TEXTS
from tinystories.common.errors import UserError
from tinystories.corpus.stories import read_stories
from tinystories.sources.formats import HEAD_BYTES, refuse_other_formats

STORIES = [
    'Tom, a cat; sat.\n\n"Hello," said Lily.',
    "One day\tZoë “ran”.",
    "It was {so} [red], 5,000 times.\nThe end.",
]
ROWS = [{"id": number, "story": story} for number, story in enumerate(STORIES)]
LONG = [{"text": "Once upon a time. " * HEAD_BYTES}] * 2


def message(path: Path, name: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        refuse_other_formats("data.files.train", name or str(path), path)
    assert "\n" not in str(error.value)
    return str(error.value)


def table(delimiter: str, rows: list[dict[str, object]] = ROWS, quoting: int = csv.QUOTE_MINIMAL) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def parquet(rows: list[dict[str, object]]) -> bytes:
    file = io.BytesIO()
    pd.DataFrame(rows).to_parquet(file)
    return file.getvalue()


def arrow(new: Callable[..., pa.RecordBatchFileWriter]) -> bytes:
    file, data = io.BytesIO(), pa.table({"text": STORIES})
    with new(file, data.schema) as writer:
        writer.write_table(data)
    return file.getvalue()


def json_lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


PLAIN = "".join(f"{story}\n<|endoftext|>\n" for story in STORIES).encode()
TEXT_ROWS: list[dict[str, object]] = [{"text": story} for story in STORIES]
# Those whose command makes a file that holds the stories: file, content, name in the message.
CONVERTED = {
    "a b.txt.gz": (gzip.compress(PLAIN), "gzip"),
    "it's.txt": (gzip.compress(PLAIN), "gzip"),  # by content, not by the ending
    "a.txt.bz2": (bz2.compress(PLAIN), "bzip2"),
    "a.txt.xz": (lzma.compress(PLAIN), "xz"),
    "a.txt": (PLAIN.decode().encode("utf-16"), "UTF-16 text"),
    "b.txt": (b"\xfe\xff" + PLAIN.decode().encode("utf-16-be"), "UTF-16 text"),
    "c.txt": (PLAIN.decode().encode("utf-32"), "UTF-32 text"),
    "a.jsonl": (json_lines(ROWS), "JSON lines"),
    "lines.txt": (b"\xef\xbb\xbf" + json_lines(TEXT_ROWS), "JSON lines"),
    "one.jsonl": (json_lines([{"text": STORIES[0]}]), "JSON lines"),
    "long.jsonl": (json_lines(LONG), "JSON lines"),
    "a.json": (json.dumps(ROWS).encode(), "a JSON array"),
    "b.json": (json.dumps(STORIES, indent=2).encode(), "a JSON array"),
    "long.json": (json.dumps(LONG, indent=1).encode(), "a JSON array"),
    "a.csv": (table(","), "CSV"),
    "b.csv": (table(";"), "CSV"),
    "c.csv": (table(",", TEXT_ROWS), "CSV"),  # one column, as Kaggle has TinyStories
    "d.csv": (table(",", ROWS * 2000, csv.QUOTE_ALL), "CSV"),
    "a.tsv": (table("\t"), "TSV"),
    "a.parquet": (parquet(TEXT_ROWS), "Parquet"),
    "a.arrow": (arrow(pa.ipc.new_file), "Arrow"),
    "b.arrow": (arrow(pa.ipc.new_stream), "Arrow"),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_refuse_other_formats_command_converts(tmp_path, monkeypatch, name):
    """What the command writes is accepted, and holds the stories."""
    monkeypatch.chdir(tmp_path)
    data, looks_like = CONVERTED[name]
    Path(name).write_bytes(data)
    found = message(Path(name))
    start = f"data.files.train: {name}: looks like {looks_like}; expected plain text in UTF-8; run: "
    assert found.startswith(start)
    subprocess.run(["bash", "-c", found.removeprefix(start)], check=True)
    assert Path(name).read_bytes() == data
    (new,) = set(Path().iterdir()) - {Path(name)}
    refuse_other_formats("data.files.train", new.name, new)
    texts = [row["text"].strip() for row in LONG] if "long" in name else STORIES
    stories = list(read_stories(new))
    assert stories == (texts[:1] if "one" in name else texts * (len(stories) // len(texts)))


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "application/epub+zip" if name == "mimetype" else "x")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


# Those whose command needs another program, or that have none.
NAMED = {
    "zip": (zipped("a.txt", "word/list.txt"), "zip", "unzip FILE"),
    "docx": (zipped("[Content_Types].xml", "word/document.xml"), "Word (docx)", "pandoc FILE -t plain -o NEW.txt"),
    "xlsx": (zipped("xl/workbook.xml"), "Excel (xlsx)", "soffice --convert-to csv FILE"),
    "epub": (zipped("mimetype"), "EPUB", "pandoc FILE -t plain -o NEW.txt"),
    "tar": (tarred(), "tar", "tar -xf FILE"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF", "pdftotext FILE NEW.txt"),
    "rtf": (rb"{\rtf1\ansi Once.}", "RTF", "pandoc FILE -t plain -o NEW.txt"),
    "doc": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(99), "an old Office document", "soffice --convert-to txt FILE"),
    "zst": (bytes.fromhex("28b52ffd2004") + b"!", "zstd", "unzstd < FILE > NEW"),
    "7z": (bytes.fromhex("377abcaf271c0004"), "a 7z archive", "7z x FILE"),
    "html": (b"\n<!DOCTYPE html>\n<p>Once.", "HTML", "pandoc FILE -f html -t plain -o NEW.txt"),
    "xml": (
        b'<?xml version="1.0"?><a/>',
        "XML",
        "a converter of your own, with a line <|endoftext|> after each document",
    ),
    "json": (
        json.dumps({"a": ROWS}, indent=2).encode(),
        "JSON",
        "a script that writes a line <|endoftext|> after each",
    ),
    "long": (
        json.dumps({"a": LONG}, indent=2).encode(),
        "JSON",
        "a script that writes a line <|endoftext|> after each",
    ),
}


@pytest.mark.parametrize("kind", NAMED)
def test_refuse_other_formats_names_them(tmp_path, kind):
    data, looks_like, command = NAMED[kind]
    path = tmp_path / "0.txt"
    path.write_bytes(data)
    name = f"my/a.{kind}"
    command = command.replace("FILE", name).replace("NEW", name.removesuffix(f".{kind}"))
    expected = f"data.files.train: {name}: looks like {looks_like}; expected plain text in UTF-8; run: {command}"
    assert message(path, name).startswith(expected)


WORDS = st.sampled_from(
    """Lily Tom said a dragon the é Hi 1 5,000 { } [ ] < > | : BZh PAR1 PK text label \\ % "Hello," "Hi." {so} [Music]
    " ' — html {rtf""".split()
)
MARKS = st.sampled_from([" ", ", ", ". ", "; ", ",\n", ".\n", "!\n\n", "\n", ": ", " - ", "? "])
STORY = st.lists(st.tuples(WORDS, MARKS), min_size=2).map(lambda pairs: "".join(word + mark for word, mark in pairs))
ENDINGS = st.sampled_from([".txt", ".jsonl", ".json", ".gz", ".parquet", ".md", ""])


def accepts(text: str, ending: str, head_bytes: int = HEAD_BYTES) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinystories.sources.formats.HEAD_BYTES", head_bytes)
        path = Path(directory) / f"my{ending}"
        path.write_bytes(text.encode())
        refuse_other_formats("data.files.train", path.name, path)


@settings(deadline=None, max_examples=300)
@given(STORY, ENDINGS, st.sampled_from([5, 20, HEAD_BYTES]))
@example('["Yes," said Tom.', ".json", HEAD_BYTES)
@example('["Yes"] said Tom.', ".json", HEAD_BYTES)
@example('{"Oh": a cat}', ".jsonl", HEAD_BYTES)
@example('{"Oh": 1} said Tom.', ".jsonl", HEAD_BYTES)
@example("{}\n[]\n", ".jsonl", HEAD_BYTES)
@example("[" * 50_000, ".txt", HEAD_BYTES)
@example("text,label\na,b\n", ".txt", HEAD_BYTES)
def test_refuse_other_formats_accepts_stories(text, ending, head_bytes):
    """Whatever the ending, and where the part that is looked at ends within a word."""
    accepts(text, ending, head_bytes)


PROSE = st.lists(st.sampled_from(["Lily", "Tom ran", "a cat", "the red dragon", "He was happy", "5 frogs"]), min_size=1)
SENTENCE = st.tuples(PROSE, st.sampled_from([". ", "! ", ", ", "; "])).map(lambda pair: pair[1].join(pair[0]))
LINE_ENDS = st.sampled_from(["\n", "\n\n", ",\n", ".\n", ".\r\n"])
PARAGRAPHS = st.tuples(st.lists(SENTENCE, min_size=1), LINE_ENDS, st.sampled_from(["", "\t", " "])).map(
    lambda parts: parts[1].join(parts[2] + sentence for sentence in parts[0]) + "\n"
)


@settings(deadline=None, max_examples=300)
@given(PARAGRAPHS, st.sampled_from([".csv", ".tsv"]))
@example('Tom\n"Hello," said Lily.\n', ".csv")
@example('Once upon a time\n"Hello."\n"Hi."\n', ".csv")
@example("Roses, red\nViolets, blue\n", ".csv")
@example("Roses,\nViolets,\n", ".csv")
def test_refuse_other_formats_accepts_prose_named_csv(text, ending):
    accepts(text, ending)


@given(TEXTS, st.sampled_from([".txt", ".csv", ".jsonl"]))
def test_refuse_other_formats_accepts_any_text_with_separators(texts, ending):
    """Also JSON, tables and markup: who writes separators between them means them."""
    accepts("\n<|endoftext|>\n".join([*texts, ""]), ending)
    for data, looks_like in (*CONVERTED.values(), *((data, name) for data, name, _ in NAMED.values())):
        if looks_like in ("JSON lines", "a JSON array", "CSV", "TSV", "HTML", "XML", "JSON") and len(data) < 9999:
            accepts(data.decode() + "\n<|endoftext|>\n", ending)


def test_refuse_other_formats_table_cut_anywhere(tmp_path, monkeypatch):
    """The part that is looked at may end within a row."""
    (tmp_path / "a.csv").write_bytes(b"number,story,label\n" + b'10,Once,1\n20,"Two, or so",0\n' * 99)
    for head_bytes in range(40, 100):
        monkeypatch.setattr("tinystories.sources.formats.HEAD_BYTES", head_bytes)
        assert "looks like CSV" in message(tmp_path / "a.csv")


def test_refuse_other_formats_separator_within_json(tmp_path):
    """Not as a line of its own, so the file is JSON all the same."""
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"text": "One.\n<|endoftext|>\n"}]))
    assert "looks like JSON lines" in message(tmp_path / "a.jsonl")


def test_refuse_other_formats_leaves_unreadable_files(tmp_path):
    refuse_other_formats("data.files.train", "none", tmp_path / "none")
    refuse_other_formats("data.files.train", "folder", tmp_path)
