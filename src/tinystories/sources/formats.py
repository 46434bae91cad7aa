"""Recognise files that are no plain text, by their content: each is refused with the command that converts it."""

import csv
import io
import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinystories.common.errors import UserError
from tinystories.corpus.stories import SEPARATOR

HEAD_BYTES = 1 << 16  # looked at; less than the longest field that `csv` reads

_COLUMN = "text"  # in commands, where the file's own columns are not read
_EACH = f'print({{text}}, "{SEPARATOR}", sep="\\n")'
_ALL = f'print(*{{table}}["{_COLUMN}"], sep="\\n{SEPARATOR}\\n")'
_OPEN = 'open(sys.argv[1], encoding="utf-8-sig", newline="")'  # with or without a byte order mark
_BY_HAND = f"a line {SEPARATOR} after each document"


@dataclass(frozen=True)
class _Format:
    """What a file looks like. `command` makes a file with `ending` of it: {old} and {new} stand for their names."""

    name: str
    command: str
    ending: str = ".txt"


# By the first bytes; none of them begins a text in UTF-8, or hardly one.
_MAGIC = (
    (b"\x1f\x8b", _Format("gzip", "gunzip < {old} > {new}", "")),
    (b"BZh", _Format("bzip2", "bunzip2 < {old} > {new}", "")),
    (b"\xfd7zXZ\0", _Format("xz", "unxz < {old} > {new}", "")),
    (b"\x28\xb5\x2f\xfd", _Format("zstd", "unzstd < {old} > {new}", "")),
    (b"7z\xbc\xaf\x27\x1c", _Format("a 7z archive", "7z x {old}")),
    (b"\xff\xfe\0\0", _Format("UTF-32 text", "iconv -f UTF-32 -t UTF-8 {old} > {new}", ".utf8.txt")),
    (b"\0\0\xfe\xff", _Format("UTF-32 text", "iconv -f UTF-32 -t UTF-8 {old} > {new}", ".utf8.txt")),
    (b"\xff\xfe", _Format("UTF-16 text", "iconv -f UTF-16 -t UTF-8 {old} > {new}", ".utf8.txt")),
    (b"\xfe\xff", _Format("UTF-16 text", "iconv -f UTF-16 -t UTF-8 {old} > {new}", ".utf8.txt")),
    (b"%PDF-", _Format("PDF", "pdftotext {old} {new}")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _Format("an old Office document", "soffice --convert-to txt {old}")),
    (b"{\\rtf", _Format("RTF", "pandoc {old} -t plain -o {new}")),
)
_ZIPPED = (  # by what stands near the beginning
    (b"word/document.xml", _Format("Word (docx)", "pandoc {old} -t plain -o {new}")),
    (b"application/vnd.oasis.opendocument.text", _Format("OpenDocument", "pandoc {old} -t plain -o {new}")),
    (b"application/epub+zip", _Format("EPUB", "pandoc {old} -t plain -o {new}")),
    (b"xl/workbook.xml", _Format("Excel (xlsx)", "soffice --convert-to csv {old}")),
    (b"", _Format("zip", "unzip {old}")),
)
_STRING = r'"(?:[^"\\\n]|\\.)*"'
_JSON_OBJECT = re.compile(rf"\{{\s*{_STRING}\s*:")
_JSON_ARRAY = re.compile(rf"\[\s*(?:\{{\s*{_STRING}\s*:|{_STRING}\s*,\s*{_STRING}\s*[,\]])")
_MARKUP = re.compile(r"<(!doctype\s+html|html|\?xml)[\s>]", re.IGNORECASE)
_SEPARATOR_LINE = re.compile(rf"^[ \t]*{re.escape(SEPARATOR)}[ \t]*\r?$", re.MULTILINE)


def refuse_other_formats(key: str, name: str, path: Path) -> None:
    """Refuse a file that is compressed, a document of another program, a table, JSON or markup.

    Text with a line that is the separator is taken as it is, whatever else it looks like. A file that is not readable
    is left to what reads it. `name`: stands for the path in the message and its command.
    Errors: UserError: what it looks like, and a command that makes text of it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 8, 0))
            tail = file.read(8)
    except OSError:
        return
    found = _binary(head, tail) or _text(head, size <= len(head), Path(name).suffix.lower())
    if found:
        ending = Path(name).suffix
        stem = name.removesuffix(ending)
        new = stem + found.ending
        if new == name or (not found.ending and ending == ".txt"):
            new = f"{stem}.new.txt"
        names = {"old": shlex.quote(name), "new": shlex.quote(new)}
        # Not str.format, because the Python in some commands has braces of its own.
        command = re.sub(r"\{(old|new)\}", lambda match: names[match[1]], found.command)
        raise UserError(f"{key}: {name}: looks like {found.name}; expected plain text in UTF-8; run: {command}")


def _binary(head: bytes, tail: bytes) -> _Format | None:
    """Recognise formats that are no text, by their first and last bytes."""
    if head.startswith(b"PK\x03\x04"):
        return next(found for sign, found in _ZIPPED if sign in head)
    if head.startswith(b"PAR1") and tail.endswith(b"PAR1"):
        return _Format("Parquet", _python("pandas", _ALL.format(table="pandas.read_parquet(sys.argv[1])")))
    if head.startswith((b"ARROW1\0\0", b"\xff\xff\xff\xff")):  # a file; a stream, as `datasets` writes it
        opened = f"pyarrow.ipc.open_{'file' if head.startswith(b'ARROW1') else 'stream'}(sys.argv[1])"
        return _Format("Arrow", _python("pyarrow", _ALL.format(table=f"{opened}.read_all().to_pydict()")))
    if head[257:262] == b"ustar" and b"\0" in head[:257]:
        return _Format("tar", "tar -xf {old}")
    matches = (found for magic, found in _MAGIC if head.startswith(magic))
    return next((found for found in matches if found.name != "bzip2" or head[4:10] == b"1AY&SY"), None)


def _text(head: bytes, whole: bool, ending: str) -> _Format | None:
    """Recognise text that is no plain text. `whole`: the head is the whole file. `ending`: of its name."""
    text = head.decode(errors="replace").lstrip("\ufeff\r\n")
    if _SEPARATOR_LINE.search(text):
        return None
    if markup := _MARKUP.match(text.lstrip()):
        if markup[1].lower() == "?xml":
            return _Format("XML", f"a converter of your own, with {_BY_HAND}")
        return _Format("HTML", "pandoc {old} -f html -t plain -o {new}")
    return _json(text.lstrip(), whole) or (_table(text, whole) if ending in (".csv", ".tsv") else None)


def _json(text: str, whole: bool) -> _Format | None:
    """Recognise JSON lines, one array, or one object, by the first value."""
    if not text.startswith(("{", "[")):
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        cut_object, cut_array = (not whole and form.match(text) for form in (_JSON_OBJECT, _JSON_ARRAY))
        if cut_object:
            return _json_lines({}) if "\n" not in text else _Format("JSON", f"a script that writes {_BY_HAND}")
        return _json_array([{}]) if cut_array else None
    rest = text[end:].lstrip(" \t\r")
    if isinstance(value, dict) and value and rest[:1] in ("", "\n"):
        lines = "\n" not in text[:end]
        return _json_lines(value) if lines else _Format("JSON", f"a script that writes {_BY_HAND}")
    if isinstance(value, list) and value and isinstance(value[0], dict | str) and not rest.strip():
        return _json_array(value)
    return None


def _json_lines(row: dict[str, Any]) -> _Format:
    code = f"[{_EACH.format(text=f'json.loads(line)[{_longest(row)}]')} for line in {_OPEN}]"
    return _Format("JSON lines", _python("json", code))


def _json_array(rows: list[Any]) -> _Format:
    text = f"row[{_longest(rows[0])}]" if isinstance(rows[0], dict) else "row"
    return _Format("a JSON array", _python("json", f"[{_EACH.format(text=text)} for row in json.load({_OPEN})]"))


def _table(text: str, whole: bool) -> _Format | None:
    """Recognise CSV and TSV: as many cells in each row. In prose a blank follows a comma, so a cell would begin so."""
    for delimiter, name in ((",", "CSV"), ("\t", "TSV"), (";", "CSV")):
        rows = _rows(text, delimiter, whole)
        if len(rows) < 2 or len({len(row) for row in rows}) > 1:
            continue
        columns = len(rows[0])
        if columns > 1:
            empty_column = not any(row[0] for row in rows) or not any(row[-1] for row in rows)  # of verses, too
            prose = empty_column or any(cell.startswith(" ") for row in rows for cell in row)
        else:  # one column, quoted where it has a comma
            prose = not re.fullmatch(r"\w+", rows[0][0]) or not re.search(r'^"', text, re.MULTILINE)
        if prose:
            continue
        longest = max(range(columns), key=lambda column: len(rows[1][column]))
        separated = "" if delimiter == "," else f", delimiter={json.dumps(delimiter)}"
        reader = f"csv.DictReader({_OPEN}{separated})"
        text = f"row[{json.dumps(rows[0][longest], ensure_ascii=False)}]"
        return _Format(name, _python("csv", f"[{_EACH.format(text=text)} for row in {reader}]"))
    return None


def _rows(text: str, delimiter: str, whole: bool) -> list[list[str]]:
    """Parse the rows that are whole. Empty where the text is no such table."""
    rows = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            rows.append(row)
    except csv.Error as error:
        if whole or "end of data" not in str(error):
            return []
    else:
        if not whole:
            rows.pop()
    return [row for row in rows if row]


def _longest(row: dict[str, Any]) -> str:
    """The key of the longest text, as Python writes it."""
    texts = {key: len(value) for key, value in row.items() if isinstance(value, str)}
    return json.dumps(max(texts, key=texts.__getitem__, default=_COLUMN), ensure_ascii=False)


def _python(module: str, code: str) -> str:
    return f"python -c {shlex.quote(f'import {module}, sys; {code}')} {{old}} > {{new}}"
