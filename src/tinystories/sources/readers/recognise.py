"""Recognise by its content a file that is not what its ending says: it is refused by name, with a command."""

import csv
import json
import re
import shlex
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tinystories.corpus.stories import SEPARATOR
from tinystories.sources.readers.compression import COMPRESSIONS, UNPACK
from tinystories.sources.readers.tables import column_option

HEAD_BYTES = 1 << 16  # looked at

_BY_HAND = f"convert it, with a line {SEPARATOR} after each document"
_OPEN = 'open(sys.argv[1], encoding="utf-8-sig")'  # with or without a byte order mark


@dataclass(frozen=True)
class Look:
    """What a file looks like, and what makes of it a file that is read.

    `command`: {old} and {new} stand for the names; `ending`: of the new one. Without a command the file gets that
    ending. `option`: what `dvc exp run` needs then. `advice`: in place of all these.
    """

    name: str
    command: str = ""
    ending: str = ".txt"
    option: str = ""
    advice: str = ""


# By the first bytes; none of them begins a text in UTF-8, or hardly one.
_MAGIC = (
    (b"7z\xbc\xaf\x27\x1c", Look("a 7z archive", "7z x {old}")),
    (b"\xff\xfe\0\0", Look("UTF-32 text", "iconv -f UTF-32 -t UTF-8 {old} > {new}", "utf8")),
    (b"\0\0\xfe\xff", Look("UTF-32 text", "iconv -f UTF-32 -t UTF-8 {old} > {new}", "utf8")),
    (b"\xff\xfe", Look("UTF-16 text", "iconv -f UTF-16 -t UTF-8 {old} > {new}", "utf8")),
    (b"\xfe\xff", Look("UTF-16 text", "iconv -f UTF-16 -t UTF-8 {old} > {new}", "utf8")),
    (b"%PDF-", Look("PDF", "pdftotext {old} {new}")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Look("an old Office document", "soffice --convert-to txt {old}")),
    (b"{\\rtf", Look("RTF", "pandoc {old} -t plain -o {new}")),
    (b"\x1f\x8b", Look("gzip", ending="+.gz")),
    (b"\xfd7zXZ\0", Look("xz", ending="+.xz")),
    (b"\x28\xb5\x2f\xfd", Look("zstd", ending="+.zst")),
)
_ZIPPED = (  # by what stands near the beginning
    (b"word/document.xml", Look("Word (docx)", "pandoc {old} -t plain -o {new}")),
    (b"application/vnd.oasis.opendocument.text", Look("OpenDocument", "pandoc {old} -t plain -o {new}")),
    (b"application/epub+zip", Look("EPUB", "pandoc {old} -t plain -o {new}")),
    (b"xl/workbook.xml", Look("Excel (xlsx)", "soffice --convert-to csv {old}")),
    (b"", Look("zip", "unzip {old}")),
)
_STRING = r'"(?:[^"\\\n]|\\.)*"'
_JSON_OBJECT = re.compile(rf"\{{\s*{_STRING}\s*:")
_JSON_ARRAY = re.compile(rf"\[\s*(?:\{{\s*{_STRING}\s*:|{_STRING}\s*,\s*{_STRING}\s*[,\]])")
_MARKUP = re.compile(r"<(!doctype\s+html|html|\?xml)[\s>]", re.IGNORECASE)
_SEPARATOR_LINE = re.compile(rf"^[ \t]*{re.escape(SEPARATOR)}[ \t]*\r?$", re.MULTILINE)
_QUOTED_CELL = re.compile(r'"(?:[^"]|""){20,}"\r?\n')


def advice(look: Look, name: str, compression: str, packed: bool = True) -> str:
    """Say what a file looks like and what helps.

    `compression`: that ending of `name`, or empty. `packed`: the file is compressed so, and its plain bytes are meant.
    """
    if look.advice:
        return f"looks like {look.name}; {look.advice}"
    bare = name.removesuffix(compression) if compression else name
    suffix = Path(bare).suffix
    stem = bare.removesuffix(suffix)
    option = f", and add {look.option}" if look.option else ""
    packed = packed and bool(compression)
    unpack = f"{UNPACK[compression]} < {shlex.quote(name)} > " if packed else ""
    if not look.command:
        added = look.ending.removeprefix("+")
        if packed and added in COMPRESSIONS:
            new = shlex.quote(f"{stem}.once{suffix}{added}")
            return f"looks like {look.name} within {COMPRESSIONS[compression]}; run: {unpack}{new}"
        new = (bare if added in COMPRESSIONS else stem) + added + (compression if packed else "")
        move = f"mv {shlex.quote(name)} {shlex.quote(new)}"
        return f"looks like {look.name}, which its name should say; run: {move}{option}"
    new = stem + (f".utf8{suffix or '.txt'}" if look.ending == "utf8" else look.ending)
    old = bare if packed else name
    if new == old:
        new = f"{stem}.new{suffix}"
    names = {"old": shlex.quote(old), "new": shlex.quote(new)}
    # Not str.format, because the Python in some commands has braces of its own.
    command = re.sub(r"\{(old|new)\}", lambda match: names[match[1]], look.command)
    first = f"{unpack}{names['old']}; " if packed else ""
    return f"looks like {look.name}; expected text, JSON lines, CSV or Parquet; run: {first}{command}{option}"


def recognise(head: bytes, whole: bool, kind: str, column: str) -> Look | None:
    """Tell what a file is by its first bytes where it is not of this kind; None where it may be.

    `whole`: the head is the whole file. `kind`: text, json, csv, tsv or parquet. Text with a line that is the
    separator is taken as it is, whatever else it looks like.
    """
    if head.startswith(b"PAR1" if kind == "parquet" else b"PAR1\x15"):
        return None if kind == "parquet" else Look("Parquet", ending=".parquet")
    if look := _binary(head):
        return look
    text = head.decode(errors="replace").lstrip("\ufeff\r\n")
    if kind == "text" and _SEPARATOR_LINE.search(text):
        return None
    if markup := _MARKUP.match(text.lstrip()):
        if markup[1].lower() == "?xml":
            return Look("XML", advice=_BY_HAND)
        return Look("HTML", "pandoc {old} -f html -t plain -o {new}")
    look = _json(text.lstrip(), whole, column)
    if look or kind == "json":
        return None if look and kind == "json" and look.ending == ".jsonl" and not look.command else look
    return _table(text, column) if kind == "text" else None


def _binary(head: bytes) -> Look | None:
    """Recognise formats that are no text."""
    if head.startswith(b"PK\x03\x04"):
        return next(look for sign, look in _ZIPPED if sign in head)
    if head.startswith((b"ARROW1\0\0", b"\xff\xff\xff\xff")):  # a file; a stream, as `datasets` writes it
        opened = f"pyarrow.ipc.open_{'file' if head.startswith(b'ARROW1') else 'stream'}(sys.argv[1])"
        code = f"pyarrow.parquet.write_table({opened}.read_all(), sys.argv[2])"
        return Look("Arrow", f"{_python('pyarrow.parquet, pyarrow.ipc', code)} {{old}} {{new}}", ".parquet")
    if head[257:262] == b"ustar" and b"\0" in head[:257]:
        return Look("tar", "tar -xf {old}")
    if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":
        return Look("bzip2", ending="+.bz2")
    if look := next((look for magic, look in _MAGIC if head.startswith(magic)), None):
        return look
    if b"\0" not in head:
        return None
    for name, zeros in (("UTF-16LE", head[1::2]), ("UTF-16BE", head[::2])):
        if zeros.count(0) > 0.7 * len(zeros) and head.count(0) < 0.6 * len(head):
            return Look("UTF-16 text", f"iconv -f {name} -t UTF-8 {{old}} > {{new}}", "utf8")
    return Look(f"binary data, with a zero at byte {head.index(0)}", advice="expected text, JSON lines, CSV or Parquet")


def _json(text: str, whole: bool, column: str) -> Look | None:
    """Recognise JSON lines, one array, or one object, by the first value."""
    if not text.startswith(("{", "[")):
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        cut_object, cut_array = (not whole and form.match(text) for form in (_JSON_OBJECT, _JSON_ARRAY))
        if cut_object:
            return _json_lines({}, column) if "\n" not in text else Look("JSON", advice=_BY_HAND)
        return _json_array([{}], column) if cut_array else None
    rest = text[end:].lstrip(" \t\r")
    if isinstance(value, dict) and value and rest[:1] in ("", "\n"):
        return _json_lines(value, column) if "\n" not in text[:end] else Look("JSON", advice=_BY_HAND)
    if isinstance(value, list) and value and isinstance(value[0], dict | str) and not rest.strip():
        return _json_array(value, column)
    return None


def _json_lines(row: dict[str, Any], column: str) -> Look:
    return Look("JSON lines", ending=".jsonl", option=_option(row, column))


def _json_array(rows: list[Any], column: str) -> Look:
    is_row = isinstance(rows[0], dict)
    row = "row" if is_row else f"{{{json.dumps(column)}: row}}"
    command = _python("json", f"[print(json.dumps({row})) for row in json.load({_OPEN})]")
    option = _option(rows[0], column) if is_row else ""
    return Look("a JSON array", f"{command} {{old}} > {{new}}", ".jsonl", option)


def _table(text: str, column: str) -> Look | None:
    """Recognise CSV and TSV by a header that has the column, and a second row of as many cells."""
    for delimiter, name in ((",", "CSV"), (";", "CSV"), ("\t", "TSV")):
        try:
            rows = list(islice(csv.reader(text.splitlines(True), delimiter=delimiter), 2))
        except csv.Error:
            continue
        if len(rows) < 2 or column not in rows[0] or len(rows[0]) != len(rows[1]):
            continue
        if not all(rows[0]) or any(cell.startswith(" ") for row in rows for cell in row):  # prose
            continue
        # One column: a story may begin with a line that is a word, and go on with a quote.
        if len(rows[0]) > 1 or _QUOTED_CELL.match(text.partition("\n")[2]):
            return Look(name, ending=f".{name.lower()}")
    return None


def _option(row: dict[str, Any], column: str) -> str:
    """The option that names the longest text of a row, where it is not in the column already."""
    texts = {key: len(value) for key, value in row.items() if isinstance(value, str)}
    return column_option(max(texts, key=texts.__getitem__)) if texts and column not in row else ""


def _python(modules: str, code: str) -> str:
    return f"python -c {shlex.quote(f'import {modules}, sys; {code}')}"
