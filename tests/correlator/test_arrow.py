"""What is handed to DuckDB as Arrow comes out of it unchanged: DuckDB 2.0.0 got some Arrow tables wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pytest

ROWS = 2_600  # more than one of DuckDB's vectors
EVENTS = pa.list_(
    pa.struct([("name", pa.string()), ("time_ns", pa.int64()), ("tags", pa.map_(pa.string(), pa.string()))])
)


def values(rng: random.Random, count: int) -> pa.Table:
    """Columns of the shapes that the store writes, with nulls and empty values among them."""

    def column(kind: pa.DataType, *draw: Callable[[], Any]) -> pa.Array:
        return pa.array([rng.choice(draw)() for _ in range(count)], kind)

    def tags() -> list[tuple[str, str | None]]:
        return [(f"key {place}", rng.choice([None, "value"])) for place in range(rng.randrange(4))]

    def events() -> list[dict[str, Any]]:
        return [
            {"name": "exception", "time_ns": rng.randrange(1 << 62), "tags": tags()} for _ in range(rng.randrange(3))
        ]

    def nothing() -> None:
        return None

    return pa.table(
        {
            "row_no": pa.array(range(count), pa.int64()),
            "number": column(pa.int64(), nothing, lambda: rng.randrange(-(1 << 62), 1 << 62)),
            "share": column(pa.float64(), nothing, rng.random),
            "flag": column(pa.bool_(), nothing, lambda: True, lambda: False),
            "name": column(pa.string(), nothing, str, lambda: "é" * rng.randrange(30)),
            "tags": column(pa.map_(pa.string(), pa.string()), nothing, tags),
            "events": column(EVENTS, nothing, events),
        }
    )


def whole(table: pa.Table) -> pa.Table:
    return table


def sliced(table: pa.Table) -> pa.Table:
    return table.slice(17, ROWS - 200)


def chunked(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(3, 2_047), table.slice(2_050, 1), table.slice(2_051, 500)])


@pytest.mark.parametrize("cut", [whole, sliced, chunked])
@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("TRUE", lambda row: True),
        ("number > 0", lambda row: row["number"] is not None and row["number"] > 0),
        ("name = '' OR flag", lambda row: row["name"] == "" or row["flag"]),
        ("row_no % 3 = 1", lambda row: row["row_no"] % 3 == 1),
        ("tags['key 0'] = 'value'", lambda row: dict(row["tags"] or []).get("key 0") == "value"),
        ("len(events) > 1", lambda row: len(row["events"] or []) > 1),
    ],
)
def test_a_table_of_arrow_s_is_read_as_it_is(
    cut: Callable[[pa.Table], pa.Table], condition: str, holds: Callable[[dict[str, Any]], bool]
) -> None:
    """Whole, sliced or in chunks, filtered or not, and after it was written: each row is what was handed over."""
    table = cut(values(random.Random(1), ROWS))  # noqa: S311
    expected = [row for row in table.to_pylist() if holds(row)]
    connection = duckdb.connect()
    connection.register("arriving", table)
    connection.execute(f"CREATE TABLE kept AS SELECT * FROM arriving WHERE {condition}")
    for source in (f"arriving WHERE {condition}", "kept"):
        rows = connection.sql(f"SELECT * FROM {source} ORDER BY row_no").to_arrow_table().to_pylist()
        assert rows == expected
