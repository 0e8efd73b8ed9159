"""A question of its own file needs no entry in any list: it is asked with what reads its answer."""

from __future__ import annotations

import duckdb
import pytest
from spans import batch, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions import answers
from layerline_correlator.store.patience import TooBusy


def read_longest(cursor: duckdb.DuckDBPyConnection, service: str, *, most: int = 1) -> list[str]:
    """The operations of a service that took longest."""
    return [
        name
        for (name,) in cursor.execute(
            "SELECT name FROM span WHERE resource IN (SELECT resource FROM resource WHERE service = $service)"
            " ORDER BY end_ns - start_ns DESC LIMIT $most",
            {"service": service, "most": most},
        ).fetchall()
    ]


def test_it_reads_what_is_there(correlator: Correlator) -> None:
    """It is given a cursor and what it was asked with, by position and by name."""
    drawn = [{"id": "a", "kind": "server", "service": "web", "name": "GET /cart", "ms": [0, 100]}]
    drawn.append({"id": "b", "kind": "server", "service": "web", "name": "GET /stock", "ms": [0, 200]})
    correlator.append(batch([span_row(one, "1" * 32, 1_790_000_000_000_000_000) for one in drawn]))
    assert correlator.ask(read_longest, "web") == ["GET /stock"]
    assert correlator.ask(read_longest, "web", most=2) == ["GET /stock", "GET /cart"]


def test_it_changes_nothing(correlator: Correlator) -> None:
    """The cursor only reads."""
    with pytest.raises(duckdb.Error, match="read-only"):
        correlator.ask(lambda cursor: cursor.execute("DELETE FROM hot_span").fetchall())


def test_it_is_known_whether_somebody_asks(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """To receive and to work out is no question; who asked is taken to ask again for a while."""
    correlator.append(
        batch([span_row({"id": "a", "kind": "server", "ms": [0, 100]}, "1" * 32, 1_790_000_000_000_000_000)])
    )
    correlator.look_for_incidents()
    correlator.health()
    assert not correlator.is_asked()
    correlator.ask(read_longest, "web")
    assert correlator.is_asked()
    monkeypatch.setattr(answers, "ASKING_S", 0.0)
    assert not correlator.is_asked()


def test_what_needs_too_much_memory_is_for_later(correlator: Correlator) -> None:
    """A question that runs out of memory is refused for now, as others may be using it; the next one is answered."""

    def memory(cursor: duckdb.DuckDBPyConnection, most: str) -> str:
        ((before,),) = cursor.execute("SELECT current_setting('memory_limit')").fetchall()
        cursor.execute(f"SET GLOBAL memory_limit = '{most}'").fetchall()
        return str(before)

    before = correlator.ask(memory, "30MB")
    try:
        with pytest.raises(TooBusy, match=r"LAYERLINE_MEMORY.*a shorter window needs less"):
            correlator.ask(
                lambda cursor: cursor.execute(
                    "SELECT count(DISTINCT a) FROM (SELECT list(range ORDER BY hash(range)) AS a FROM range(3_000_000))"
                ).fetchall()
            )
    finally:
        correlator.ask(memory, before)
    assert correlator.ask(lambda cursor: cursor.execute("SELECT 1").fetchall()) == [(1,)]
