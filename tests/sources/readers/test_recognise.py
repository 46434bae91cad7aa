"""Files that are not what their ending says are refused by name, with a command that helps; text never is."""

import bz2
import gzip
import io
import json
import lzma
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.corpora import json_lines, parquet, table, text, zstd
from tests.support.texts import STORIES as TEXTS
from tinystories.common.console import ProgressBar
from tinystories.common.errors import UserError
from tinystories.sources.readers.read import UserFile
from tinystories.sources.readers.recognise import HEAD_BYTES, recognise

STORIES = [
    'Tom, a cat; sat.\n\n"Hello," said Lily.',
    "One day\tZoë “ran”.",
    "It was {so} [red], 5,000 times.\nThe end.",
]
ROWS = [{"id": number, "story": story} for number, story in enumerate(STORIES)]
TEXT_ROWS = [{"id": number, "text": story} for number, story in enumerate(STORIES)]
LONG = [{"text": "Once upon a time. " * HEAD_BYTES}] * 2


def message(path: Path) -> str:
    with pytest.raises(UserError) as error:
        UserFile("data.files.train", str(path), path, "text", "auto").check()
    assert "\n" not in str(error.value)
    return str(error.value)


def arrow(new: Callable[..., pa.RecordBatchFileWriter]) -> bytes:
    file, data = io.BytesIO(), pa.table({"text": STORIES})
    with new(file, data.schema) as writer:
        writer.write_table(data)
    return file.getvalue()


PLAIN = text(STORIES)
# Those whose command makes a file that holds the stories: file, content, name in the message.
CONVERTED = {
    "a b.txt": (gzip.compress(PLAIN), "gzip"),
    "it's.txt": (bz2.compress(PLAIN), "bzip2"),
    "x.txt": (lzma.compress(PLAIN), "xz"),
    "z.jsonl": (zstd(json_lines(TEXT_ROWS)), "zstd"),
    "twice.txt.gz": (gzip.compress(gzip.compress(PLAIN)), "gzip within gzip"),
    "wrong.txt.gz": (bz2.compress(PLAIN), "bzip2"),
    "plain.txt.gz": (PLAIN, "a file that is not compressed"),
    "plain.parquet.xz": (parquet(TEXT_ROWS), "a file that is not compressed"),
    "a.txt": (PLAIN.decode().encode("utf-16"), "UTF-16 text"),
    "b.txt": (b"\xfe\xff" + PLAIN.decode().encode("utf-16-be"), "UTF-16 text"),
    "c.txt": (PLAIN.decode().encode("utf-32"), "UTF-32 text"),
    "d.csv": (table(TEXT_ROWS).decode().encode("utf-16-le"), "UTF-16 text"),
    "e.jsonl.gz": (gzip.compress(json_lines(TEXT_ROWS).decode().encode("utf-16")), "UTF-16 text"),
    "story.txt": (json_lines(ROWS), "JSON lines"),
    "lines.txt": (b"\xef\xbb\xbf" + json_lines(TEXT_ROWS), "JSON lines"),
    "lines.csv": (json_lines(TEXT_ROWS), "JSON lines"),
    "inner.txt.gz": (gzip.compress(json_lines(ROWS)), "JSON lines"),
    "one.json": (json_lines(TEXT_ROWS[:1]), "JSON lines"),
    "long.json": (json_lines(LONG), "JSON lines"),
    "array.json": (json.dumps(ROWS).encode(), "a JSON array"),
    "array.jsonl": (json.dumps(STORIES, indent=2).encode(), "a JSON array"),
    "long.txt": (json.dumps(LONG, indent=1).encode(), "a JSON array"),
    "csv.txt": (table(TEXT_ROWS), "CSV"),
    "semicolon.txt": (table(TEXT_ROWS, ";"), "CSV"),
    "column.txt": (table([{"text": story} for story in STORIES]), "CSV"),  # one, as Kaggle has TinyStories
    "tsv": (table(TEXT_ROWS, "\t"), "TSV"),
    "parquet.csv": (parquet(ROWS), "Parquet"),
    "a.arrow": (arrow(pa.ipc.new_file), "Arrow"),
    "b.arrow": (arrow(pa.ipc.new_stream), "Arrow"),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_check_command_converts(tmp_path, monkeypatch, name):
    """What the command writes is accepted, and holds the stories."""
    monkeypatch.chdir(tmp_path)
    data, looks_like = CONVERTED[name]
    Path(name).write_bytes(data)
    found = message(Path(name))
    assert f": {name}: " in found and f"looks like {looks_like}" in found
    command, _, column = found.partition("; run: ")[2].partition(", and add -S data.files.column=")
    assert bool(column) == (b"story" in data or name in ("inner.txt.gz", "story.txt")) or name == "parquet.csv"
    subprocess.run(["bash", "-c", command], check=True)
    (new,) = set(Path().iterdir()) - {Path(name), Path(name.removesuffix(".gz"))} or {Path(name.removesuffix(".gz"))}
    column = "story" if name == "parquet.csv" else column or "text"
    file = UserFile("x", new.name, new, column, "auto")
    file.check()
    texts = [row["text"].strip() for row in LONG] if "long" in name else STORIES
    stories = list(file.read(ProgressBar("", None, 0, None)))
    assert stories == (texts[:1] if "one" in name else texts)


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


EXPECTED = "; expected text, JSON lines, CSV or Parquet"
BY_HAND = "; convert it, with a line <|endoftext|> after each document"
# Those whose command needs another program, or that have none.
NAMED = {
    "zip": (zipped("a.txt", "word/list.txt"), "zip", f"{EXPECTED}; run: unzip FILE"),
    "docx": (
        zipped("[Content_Types].xml", "word/document.xml"),
        "Word (docx)",
        f"{EXPECTED}; run: pandoc FILE -t plain -o NEW.txt",
    ),
    "xlsx": (zipped("xl/workbook.xml"), "Excel (xlsx)", f"{EXPECTED}; run: soffice --convert-to csv FILE"),
    "epub": (zipped("mimetype"), "EPUB", f"{EXPECTED}; run: pandoc FILE -t plain -o NEW.txt"),
    "tar": (tarred(), "tar", f"{EXPECTED}; run: tar -xf FILE"),
    "tar.gz": (gzip.compress(tarred()), "tar", f"{EXPECTED}; run: gunzip < FILE > my/a.tar; tar -xf my/a.tar"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF", f"{EXPECTED}; run: pdftotext FILE NEW.txt"),
    "rtf": (rb"{\rtf1\ansi Once.}", "RTF", f"{EXPECTED}; run: pandoc FILE -t plain -o NEW.txt"),
    "doc": (
        bytes.fromhex("d0cf11e0a1b11ae1") + bytes(99),
        "an old Office document",
        f"{EXPECTED}; run: soffice --convert-to txt FILE",
    ),
    "7z": (bytes.fromhex("377abcaf271c0004"), "a 7z archive", f"{EXPECTED}; run: 7z x FILE"),
    "html": (b"\n<!DOCTYPE html>\n<p>Once.", "HTML", f"{EXPECTED}; run: pandoc FILE -f html -t plain -o NEW.txt"),
    "xml": (b'<?xml version="1.0"?><a/>', "XML", BY_HAND),
    "json": (json.dumps({"a": ROWS}, indent=2).encode(), "JSON", BY_HAND),
    "long": (json.dumps({"a": LONG}, indent=2).encode(), "JSON", BY_HAND),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary data, with a zero at byte 8", EXPECTED),
}


@pytest.mark.parametrize("kind", NAMED)
def test_check_names_formats_that_are_not_read(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    data, looks_like, advice = NAMED[kind]
    path = Path(f"my/a.{kind}")
    path.parent.mkdir()
    path.write_bytes(data)
    advice = advice.replace("FILE", str(path)).replace("NEW", "my/a")
    assert message(path) == f"data.files.train: {path}: looks like {looks_like}{advice}"


WORDS = st.sampled_from(
    """Lily Tom said a dragon the é Hi 1 5,000 { } [ ] < > | : BZh PAR1 PK text label \\ % "Hello," "Hi." {so} [Music]
    " ' — html {rtf""".split()
)
MARKS = st.sampled_from([" ", ", ", ". ", "; ", ",\n", ".\n", "!\n\n", "\n", ": ", " - ", "? "])
STORY = st.lists(st.tuples(WORDS, MARKS), min_size=2).map(lambda pairs: "".join(word + mark for word, mark in pairs))


def accepts(text: str, head_bytes: int = HEAD_BYTES) -> None:
    data = text.encode()
    assert recognise(data[:head_bytes], len(data) <= head_bytes, "text", "text") is None


@settings(deadline=None, max_examples=300)
@given(STORY, st.sampled_from([5, 20, HEAD_BYTES]))
@example('["Yes," said Tom.', HEAD_BYTES)
@example('["Yes"] said Tom.', HEAD_BYTES)
@example('{"Oh": a cat}', HEAD_BYTES)
@example('{"Oh": 1} said Tom.', HEAD_BYTES)
@example("{}\n[]\n", HEAD_BYTES)
@example("[" * 50_000, HEAD_BYTES)
@example("text\nHello, said Tom\n", HEAD_BYTES)
@example("text,\nLily, ran", HEAD_BYTES)
@example("One, text\nLily, ran", HEAD_BYTES)
def test_recognise_accepts_stories(text, head_bytes):
    """Also where the part that is looked at ends within a word."""
    accepts(text, head_bytes)


@given(TEXTS)
def test_recognise_accepts_any_text_with_separators(texts):
    """Also JSON, tables and markup: who writes separators between them means them."""
    accepts("\n<|endoftext|>\n".join([*texts, ""]).replace("\0", ""))
    for data in (json_lines(ROWS), json.dumps(STORIES).encode(), table(TEXT_ROWS), NAMED["html"][0], NAMED["xml"][0]):
        accepts(data.decode() + "\n<|endoftext|>\n")


def test_recognise_separator_within_json():
    """Not as a line of its own, so the file is JSON all the same."""
    look = recognise(json_lines([{"text": "One.\n<|endoftext|>\n"}]), True, "text", "text")
    assert look and look.name == "JSON lines"
