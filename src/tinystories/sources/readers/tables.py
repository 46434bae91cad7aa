"""JSON lines and CSV: a document in each row, in the column that `data.files.column` names."""

import csv
import json
import re
import shlex
from collections.abc import Iterator
from itertools import chain, islice, zip_longest
from typing import IO, Any

from tinystories.common.errors import UserError, shorten
from tinystories.corpus.stories import SAVE_AS_UTF_8

MAX_LINE_BYTES = 1 << 25  # twice the longest document
SAMPLE_ROWS = 20

_NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)*|\.\d+)([eE][-+]?\d+)?\s*")


def read_lines(file: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers. Errors: UserError for one that is not UTF-8 or far too long."""
    number = offset = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES:
            raise UserError(f"{name}: line {number:,} has more than {MAX_LINE_BYTES:,} bytes; expected a row in each")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            place = f"byte {offset + error.start} (line {number:,})"
            raise UserError(f"{name}: not UTF-8 at {place}; {SAVE_AS_UTF_8}") from None
        offset += len(line)
        yield number, text.removeprefix("\ufeff") if number == 1 else text


def json_rows(file: IO[bytes], name: str, column: str) -> Iterator[tuple[str, str | None]]:
    """Yield the text of each JSON line, and where it stands. An empty line is no row."""
    expected = f'expected an object in each line, as in {{"{column}": "Once upon a time"}}'
    for number, line in read_lines(file, name):
        if not line.strip():
            continue
        where = f"line {number:,}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            cut = "" if line.endswith("\n") else ", the last one, is cut off or"
            reason = shorten(getattr(error, "msg", "") or "nested too deeply")
            raise UserError(f"{name}: {where}{cut} is no JSON ({reason}): {shorten(line, 40)!r}; {expected}") from None
        if not isinstance(row, dict):
            raise UserError(f"{name}: {where} is {_kind(row)}: {shorten(line, 40)!r}; {expected}")
        if column not in row:
            raise UserError(f"{name}: {where}: {_no_column(column, row)}")
        if not isinstance(text := row[column], str | None):
            raise UserError(f"{name}: {where}: {column!r} is {_kind(text)}; {_other_column(column, row)}")
        yield where, text


def csv_rows(file: IO[bytes], name: str, column: str, tabs: bool) -> Iterator[tuple[str, str | None]]:
    """Yield the cell of each row of a CSV file with a header, and where it stands. `tabs`: of a TSV file."""
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = (line for _, line in read_lines(file, name))
    head = list(islice(lines, SAMPLE_ROWS))
    delimiter = "\t" if tabs else _delimiter(head, column)
    reader = csv.reader(chain(head, lines), delimiter=delimiter, strict=True)
    rows = _whole_rows(reader, name)
    header = next(rows, (0, []))[1]
    if not header:
        return
    if header.count(column) != 1:
        found = f"two columns {column!r}" if column in header else _no_column(column, _first(header, rows))
        raise UserError(f"{name}: line 1, the header: {found}")
    index = header.index(column)
    sample = list(islice(rows, SAMPLE_ROWS))
    if sample and all(_NUMBER.fullmatch(row[index]) for _, row in sample if len(row) > index):
        other = _other_column(column, _first(header, iter(sample)))
        raise UserError(f"{name}: {column!r} is a column of numbers, {sample[0][1][index]} first; {other}")
    for line, row in chain(sample, rows):
        if len(row) != len(header):
            raise UserError(
                f"{name}: the row at line {line:,} has {len(row):,} cells, and the header {len(header):,}; a cell with "
                'a delimiter, a quote or a line end in it stands in quotes ("..."), a quote within these twice'
            )
        yield f"line {line:,}", row[index]


def _whole_rows(reader: Any, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows with the number of their first line. Errors: UserError for quotes that do not match."""
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            endless = "unexpected end of data" in str(error) or "field limit" in str(error)
            found = "a quote is never closed" if endless else f"broken quotes ({error})"
            raise UserError(
                f"{name}: the row at line {first:,}: {found}; a quote within a quoted cell is written twice, as in "
                '"She said ""Hello"""'
            ) from None
        if row:
            yield first, row


def _first(header: list[str], rows: Iterator[tuple[int, list[str]]]) -> dict[str, str]:
    """The first row with its columns; a header alone has empty cells."""
    _, row = next(rows, (0, []))
    return dict(zip_longest(header, row[: len(header)], fillvalue=""))


def _delimiter(head: list[str], column: str) -> str:
    """The delimiter with which the header has the column, else the one with which it has the most cells."""

    def cells(delimiter: str) -> list[str]:
        return next(csv.reader(head, delimiter=delimiter), [])

    return max(",;\t", key=lambda delimiter: (column in cells(delimiter), len(cells(delimiter))))


def _no_column(column: str, row: dict[str, Any]) -> str:
    names = ", ".join(map(repr, row))
    return f"no {column!r}, found {shorten(names, 100) or 'none'}; {_other_column(column, row)}"


def _other_column(column: str, row: dict[str, Any]) -> str:
    """Suggest the column with the longest text."""
    texts = {key: len(value) for key, value in row.items() if isinstance(value, str) and key != column}
    if not texts:
        return "expected the documents in one column (data.files.column)"
    return f"expected a column of texts, such as {column_option(max(texts, key=texts.__getitem__))}"


def column_option(column: str) -> str:
    """Write the option that names this column, as a shell and DVC take it."""
    plain = re.fullmatch(r"[A-Za-z_][\w.-]*", column)
    return "-S " + shlex.quote(f"data.files.column={column}" if plain else f"data.files.column='{column}'")


def _kind(value: Any) -> str:
    kinds = {"bool": "a truth value", "list": "a list", "dict": "an object", "str": "a text", "NoneType": "null"}
    return kinds.get(type(value).__name__, "a number")
