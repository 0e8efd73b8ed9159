"""Tables in CSV or Parquet, row by row; where a row stands is known, so that reading can go on there."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from layerline_api.recorded.content import content
from layerline_api.recorded.gathered import Unreadable

EXTENSIONS = (".csv", ".parquet")
_ROWS = 2_000

csv.field_size_limit(16 * 2**20)  # a log message may be long


class Bad(ValueError):
    """Why a row cannot be taken."""


Row = Sequence[Any]
#: A row's number (from 0), the line it ends in, its cells.
Numbered = tuple[int, int, Row]


def _csv(path: Path) -> tuple[Row, Iterator[Numbered]]:
    def rows() -> Iterator[Numbered]:
        with content(path) as stream, io.TextIOWrapper(stream, "utf-8", errors="replace", newline="") as text:
            reader = csv.reader(text)
            for number, row in enumerate(reader, -1):
                yield number, reader.line_num, row

    found = rows()
    return next(found, (-1, 1, ()))[2], found


def _parquet(path: Path) -> tuple[Row, Iterator[Numbered]]:
    try:
        file = parquet.ParquetFile(path)
    except pa.ArrowException as problem:
        raise Unreadable(f"expected Parquet: {problem}") from None

    def rows() -> Iterator[Numbered]:
        number = 0
        for batch in file.iter_batches(_ROWS):
            for row in zip(*(_whole_times(column).to_pylist() for column in batch.columns), strict=True):
                yield number, number + 1, row
                number += 1

    return file.schema_arrow.names, rows()


def _whole_times(column: pa.Array) -> pa.Array:
    """Times as nanoseconds: Python's have none."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("ns", kind.tz)).cast(pa.int64())
    if pa.types.is_list(kind) and pa.types.is_timestamp(kind.value_type):
        return column.cast(pa.list_(pa.timestamp("ns", kind.value_type.tz))).cast(pa.list_(pa.int64()))
    return column


def opened(path: Path) -> tuple[Row, Iterator[Numbered]]:
    """The names of the columns, and the rows."""
    return _parquet(path) if path.suffix == ".parquet" else _csv(path)
