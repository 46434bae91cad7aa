"""Parquet: a document in each row, read a few rows at a time."""

from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tinystories.common.errors import UserError, shorten
from tinystories.sources.readers.tables import column_option

BATCH_BYTES = 1 << 22  # of text, about
BUFFER_BYTES = 1 << 20


def parquet_rows(file: IO[bytes], name: str, column: str) -> Iterator[tuple[str, str | None]]:
    """Yield the text of each row, and where it stands. `file`: one that can be sought in. Errors: UserError."""
    try:
        # Without a buffer of that size a whole row group would be read at once.
        table = pq.ParquetFile(pa.PythonFile(file, "r"), buffer_size=BUFFER_BYTES, pre_buffer=False)
        _check_column(table.schema_arrow, name, column)
        row = 0
        for batch in table.iter_batches(_batch_rows(table.metadata), columns=[column]):
            for text in batch.column(0).to_pylist():
                row += 1
                yield f"row {row:,}", text
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = shorten(str(error).split("\n")[0], 80)
        raise UserError(f"{name}: damaged or cut off: no Parquet can be read from it ({text}); copy it again") from None


def _check_column(schema: Any, name: str, column: str) -> None:
    texts = [field.name for field in schema if _is_text(field.type)]
    advice = "expected the documents in one column of texts (data.files.column)"
    if others := [text for text in texts if text != column]:
        advice = f"expected a column of texts, such as {column_option(others[0])}"
    count = schema.names.count(column)
    if count != 1:
        found = f"{count} columns {column!r}" if count else f"no column {column!r}, found "
        names = "" if count else shorten(", ".join(map(repr, schema.names)), 100) or "none"
        raise UserError(f"{name}: {found}{names}; {advice}")
    if not _is_text(kind := schema.field(column).type):
        raise UserError(f"{name}: column {column!r} holds {shorten(str(kind))}; {advice}")


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _batch_rows(metadata: Any) -> int:
    """How many rows have about BATCH_BYTES together."""
    size: int = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    rows: int = metadata.num_rows
    return max(1, min(4096, BATCH_BYTES * rows // max(size, 1)))
