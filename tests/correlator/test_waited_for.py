"""Whom a span waited for is found backwards from its end, however many children it has."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from layerline_correlator.settings import Settings
from layerline_correlator.store.store import Store

Kid = tuple[int, int, int]  # number, from, to
_ASK = """
WITH children AS (
    SELECT list({'no': kid[1], 'from_ns': kid[2], 'to_ns': kid[3], 'same_thread': FALSE}
                ORDER BY kid[3] DESC, kid[2], kid[1]) AS kids
    FROM (SELECT unnest($kids::BIGINT[][]) AS kid)
)
SELECT waited_for(kids, $from_ns::BIGINT, $to_ns::BIGINT, $requested::BIGINT) FROM children
"""


@pytest.fixture(scope="module")
def cursor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    folder: Path = tmp_path_factory.mktemp("store")
    store = Store(Settings(store=folder))
    with store.cursor() as made:
        yield made
    store.close()


def by_hand(kids: list[Kid], from_ns: int, to_ns: int, requested: int) -> list[Kid]:
    """The same, one child after the other."""
    at_ns, found = to_ns, []
    for number, first_ns, last_ns in sorted(kids, key=lambda kid: (-kid[2], kid[1], kid[0])):
        begin_ns, end_ns = max(first_ns, from_ns), min(last_ns, to_ns)
        if number != requested and end_ns <= at_ns and begin_ns < end_ns:
            found.append((number, begin_ns, end_ns))
            at_ns = begin_ns
    return found


def asked(cursor: duckdb.DuckDBPyConnection, kids: list[Kid], from_ns: int, to_ns: int, requested: int) -> list[Kid]:
    found: tuple[list[dict[str, Any]]] | None = cursor.execute(
        _ASK, {"kids": [list(kid) for kid in kids], "from_ns": from_ns, "to_ns": to_ns, "requested": requested}
    ).fetchone()  # type: ignore[assignment]
    assert found is not None
    return [(pick["no"], pick["from_ns"], pick["to_ns"]) for pick in found[0]]


@pytest.mark.parametrize("number", [0, 1, 255, 256, 257, 511, 513, 2_000])
@pytest.mark.parametrize("longest_ns", [3, 40, 4_000], ids=["short", "longer", "all overlap"])
def test_as_by_hand(cursor: duckdb.DuckDBPyConnection, number: int, longest_ns: int) -> None:
    """Children that follow each other, overlap, begin before the span or end after it: as when taken one by one."""
    draw = random.Random(f"{number} {longest_ns}")  # noqa: S311 - not a secret
    kids = []
    for place in range(number):
        first_ns = draw.randrange(2 * number)
        kids.append((place, first_ns, first_ns + draw.randrange(longest_ns)))
    window = number // 10, 2 * number - number // 10
    assert asked(cursor, kids, *window, 7) == by_hand(kids, *window, 7)


def test_none_is_left_out_where_they_follow_each_other(cursor: duckdb.DuckDBPyConnection) -> None:
    """Ten thousand calls, each after the other: all of them were waited for."""
    kids = [(place, 10 * place, 10 * place + 10) for place in range(10_000)]
    found = asked(cursor, kids, 0, 100_000, -1)
    assert found == kids[::-1]
