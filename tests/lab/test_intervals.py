"""What the lab takes away from its own store, to judge the same requests as if only coarse readings were there."""

from __future__ import annotations

from pathlib import Path

import duckdb
from spans import MS, a_while_ago, batch, series_rows, span_row

from benchmarks.lab.intervals import thin
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.verdict.model import Verdict

TRACE = "7a" * 16


def judged(correlator: Correlator) -> Verdict:
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    return verdict


def test_the_account_and_most_readings_are_taken_away(tmp_path: Path) -> None:
    """Spans stay without what their threads did, each interval keeps its last reading, and all is judged anew."""
    settings = Settings(store=tmp_path, group_ns=0)
    zero_ns = a_while_ago(60)
    span = {"id": "a", "kind": "server", "container": "web-1", "ms": [0, 400], "cpu": 100, "wait": 250}
    read = {"signal": "container.cpu.time", "container": "web-1", "at": list(range(0, 4000, 200)), "values": [1] * 20}
    correlator = Correlator.open(settings)
    correlator.append(batch([span_row(span, TRACE, zero_ns)], [series_rows(read, zero_ns)]))
    correlator.look_for_incidents()
    assert {part.cause for part in judged(correlator).parts} >= {"app.cpu_busy"}
    correlator.close()
    thin(tmp_path / "hot.duckdb", 1_000 * MS)
    with duckdb.connect(str(tmp_path / "hot.duckdb"), read_only=True) as database:
        assert database.execute("SELECT thread_cpu_ns FROM span").fetchall() == [(None,)]
        assert database.execute("SELECT count(*) BETWEEN 4 AND 5 FROM point").fetchall() == [(True,)]
        for table in ("request", "part", "blind", "stay"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)], table
    correlator = Correlator.open(settings)
    try:
        correlator.look_for_incidents()
        assert judged(correlator).blind
    finally:
        correlator.close()
