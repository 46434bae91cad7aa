"""The same documents as files of each format and compression."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[Mapping[str, Any]]


def text(stories: Sequence[str]) -> bytes:
    return "".join(f"{story}\n<|endoftext|>\n" for story in stories).encode()


def json_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(rows: Rows, delimiter: str = ",") -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def parquet(rows: Rows, schema: Any = None, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), file, **options)
    return file.getvalue()


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return packed


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def corpora(stories: Sequence[str], column: str = "text") -> dict[str, bytes]:
    """By ending: the stories in each format that is read, not compressed."""
    rows = [{"number": number, column: story} for number, story in enumerate(stories)]
    return {
        ".txt": text(stories),
        ".jsonl": json_lines(rows),
        ".ndjson": json_lines(rows),
        ".csv": table(rows),
        ".tsv": table(rows, "\t"),
        ".parquet": parquet(rows),
    }
