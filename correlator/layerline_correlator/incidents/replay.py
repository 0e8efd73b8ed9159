"""Judge a bundle's incident again, from its raw data, on an empty store, and compare with what was judged before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.bundle import COUNTED, MOST_ROWS, BadBundle, Bundle, judge_again
from layerline_correlator.incidents.verdict import in_order
from layerline_correlator.ledger import work as ledger
from layerline_correlator.plain import plain
from layerline_correlator.settings import Settings
from layerline_correlator.store.sealed import KINDS
from layerline_correlator.store.statements import first_row
from layerline_correlator.store.store import Store
from layerline_correlator.verdict.ledgers import read_ledgers, select_requests

#: Traces worked out together, and how far apart in time they may have begun; as when they arrive.
_TOGETHER, _ALONGSIDE_NS = 2_000, 300 * 10**9
#: Differences listed, at most.
MOST_DIFFERENCES = 50


@dataclass(frozen=True, slots=True)
class Replayed:
    """The verdict worked out anew, and where it differs from the recorded one: path, recorded, found."""

    verdict: Mapping[str, Any]
    differences: list[tuple[str, Any, Any]]


def replay(bundle: Bundle, settings: Settings) -> Replayed:
    """Fill the empty store of ``settings`` and judge. ``BadBundle`` where it cannot be filled or is not empty."""
    store = Store(settings)
    try:
        cursor = store.cursor()
        if first_row(cursor.execute("SELECT 1 FROM span UNION ALL SELECT 1 FROM resource LIMIT 1")):
            raise BadBundle(f"the store {settings.store} is not empty; replay needs one of its own")
        try:
            _fill(cursor, bundle, settings.series)
            _work_out(cursor)
            found = _judge(cursor, bundle, Names(store.cursor()))
            failures = list(_failures(cursor, bundle))
        except duckdb.Error as problem:
            raise BadBundle(f"its data cannot be read: {str(problem).splitlines()[0][:200]}") from None
    finally:
        store.close()
    recorded = bundle.manifest["incident"]["verdict"]
    differences = list(_differences("", _timeless(recorded), _timeless(found))) + failures
    return Replayed(found, differences[:MOST_DIFFERENCES])


def _fill(cursor: duckdb.DuckDBPyConnection, bundle: Bundle, most_series: int) -> None:
    for table, file in bundle.tables.items():
        path = str(file)
        counted = first_row(cursor.execute("SELECT num_rows FROM parquet_file_metadata($path)", {"path": path}))
        if counted is None or counted[0] > MOST_ROWS:
            raise BadBundle(f"{table}.parquet has more than {MOST_ROWS:,} rows")
        if table == "series" and counted[0] > most_series:
            raise BadBundle(f"it has {counted[0]:,} series, more than {most_series:,} (LAYERLINE_SERIES)")
        if table == "failure":  # is worked out anew
            continue
        into = next((kind.table for kind in KINDS if kind.name == table), table)
        cursor.execute(
            f"INSERT INTO {into} BY NAME SELECT * FROM read_parquet($path) LIMIT {MOST_ROWS}",
            {"path": path},
        ).fetchall()


def _work_out(cursor: duckdb.DuckDBPyConnection) -> None:
    """Work out every ledger, twice: some causes look at the requests before, which are not there at first."""
    traces = cursor.execute(
        "SELECT trace_id, min(start_ns) AS first_ns, max(start_ns) FROM span GROUP BY trace_id"
        " ORDER BY first_ns, trace_id"
    ).fetchall()
    for _ in range(2):
        for chunk in _chunks(traces):
            ledger.work_out(
                cursor,
                [trace_id for trace_id, *_ in chunk],
                min(first for _, first, _ in chunk),
                max(last for *_, last in chunk),
            )


def _chunks(traces: list[tuple[str, int, int]]) -> Iterator[list[tuple[str, int, int]]]:
    chunk: list[tuple[str, int, int]] = []
    for trace in traces:
        if chunk and (len(chunk) >= _TOGETHER or trace[1] > chunk[0][1] + _ALONGSIDE_NS):
            yield chunk
            chunk = []
        chunk.append(trace)
    if chunk:
        yield chunk


def _judge(cursor: duckdb.DuckDBPyConnection, bundle: Bundle, names: Names) -> dict[str, Any]:
    judged = bundle.manifest["judged"]
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE judged AS SELECT unnest($traces::VARCHAR[]) AS trace_id,"
        " unnest($spans::VARCHAR[]) AS span_id",
        {"traces": [key[0] for key in judged], "spans": [key[1] for key in judged]},
    ).fetchall()
    rows = select_requests(
        cursor, "(trace_id, span_id) IN (SELECT trace_id, span_id FROM judged) ORDER BY start_ns, span_id", {}
    )
    ledgers, usuals = read_ledgers(cursor, in_order(rows), bundle.manifest["settings"]["settle_ns"])
    verdict = judge_again(ledgers, usuals, names, bundle.manifest["incident"])
    if verdict is None:
        raise BadBundle("none of the requests that were judged is in its data")
    found: dict[str, Any] = plain(verdict)
    return found


#: What is said of a failure, and compared.
_SAID = ("type", "message", "status_code", "status_of", "said_by", "failed_name", "service", "dependency", "services")


def _failures(cursor: duckdb.DuckDBPyConnection, bundle: Bundle) -> Iterator[tuple[str, Any, Any]]:
    """Where a request that was judged failed in another way than was recorded: ``failures.TRACE_ID.type``."""
    if "failure" not in bundle.tables:
        return

    def of_judged(table: str, **bound: str) -> dict[str, dict[str, Any]]:
        rows = cursor.execute(
            f"SELECT trace_id, span_id, {', '.join(_SAID)} FROM {table} SEMI JOIN judged USING (trace_id, span_id)"
            " ORDER BY ALL",
            bound,
        ).fetchall()
        return {f"{trace_id}/{span_id}": dict(zip(_SAID, said, strict=True)) for trace_id, span_id, *said in rows}

    recorded = of_judged("read_parquet($path)", path=str(bundle.tables["failure"]))
    yield from _differences("failures", recorded, of_judged("failure"))


def _timeless(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Without what depends on when it is asked, or counts requests that are not in the bundle."""
    return {key: value for key, value in verdict.items() if key != "settled" and key not in COUNTED}


def _differences(path: str, recorded: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ, and what stands there; ``parts[2].lost_ns``."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in sorted(recorded.keys() | found.keys()):
            yield from _differences(f"{path}.{key}" if path else key, recorded.get(key), found.get(key))
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for place, (one, other) in enumerate(zip(recorded, found, strict=True)):
            yield from _differences(f"{path}[{place}]", one, other)
    elif recorded != found:
        yield path, recorded, found
