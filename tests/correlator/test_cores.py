"""The database works with one thread while little happens."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from layerline_correlator.store.cores import KEPT_S, Cores


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:", config={"threads": 3}) as made:
        yield made


def threads(database: duckdb.DuckDBPyConnection) -> int:
    ((number,),) = database.execute("SELECT current_setting('threads')").fetchall()
    return int(number)


def test_one_while_little_happens(database: duckdb.DuckDBPyConnection) -> None:
    """It begins with one, works with all of them when they are wanted, and with one again when that was long ago."""
    clock = Clock()
    cores = Cores(database, clock)
    assert (cores.now, threads(database)) == (1, 1)
    cores.want()
    assert (cores.now, threads(database)) == (3, 3)
    clock.now_s += KEPT_S - 1
    cores.let_go()
    assert threads(database) == 3, "somebody asked a moment ago"
    cores.want()
    clock.now_s += KEPT_S - 1
    cores.let_go()
    assert threads(database) == 3
    clock.now_s += 1
    cores.let_go()
    assert (cores.now, threads(database)) == (1, 1)


def test_a_database_that_refuses_works_on(database: duckdb.DuckDBPyConnection) -> None:
    """Where the number cannot be changed, nobody who asks hears of it."""
    cores = Cores(database)
    database.execute("SET lock_configuration = true")
    cores.want()
    assert (cores.now, threads(database)) == (1, 1)
