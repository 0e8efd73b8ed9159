"""An incident as one file: what it takes to judge it again elsewhere, and what was judged here.

A zip with ``bundle.json`` (the incident, which requests were judged, versions and settings) and one Parquet file for
each table of raw data; beside them, why its requests failed. The same incident of the same store gives the same bytes:
there is no time of writing in it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.verdict import choose, concern, judge_window
from layerline_correlator.plain import plain
from layerline_correlator.store.sealed import POINT, narrow, narrow_to_traces
from layerline_correlator.store.statements import first_row, run
from layerline_correlator.verdict.failures import timeless
from layerline_correlator.verdict.judge import Ledger, Usual
from layerline_correlator.verdict.ledgers import read_ledgers
from layerline_correlator.verdict.model import Verdict

#: What a bundle looks like, and what older ones that can still be read lack; any other is refused.
FORMAT = 2
LACKS: Mapping[int, frozenset[str]] = {1: frozenset({"log", "failure"}), FORMAT: frozenset()}
TABLES = ("resource", "span", "series", "point", "event", "trouble", "log", "failure")
MANIFEST = "bundle.json"
#: How large a bundle may be once unpacked, its JSON alone, and how many rows a table may have.
MOST_BYTES, MOST_JSON_BYTES, MOST_ROWS = 2 << 30, 64 << 20, 50_000_000
#: Log records written into one bundle; what goes beyond is counted.
MOST_LOGS = 100_000
#: What a verdict says of requests that are not all in its bundle.
COUNTED = ("failures", "errors", "against")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's own


class BadBundle(ValueError):
    """Not a bundle, or not one that is safe or possible to read; the message says why."""


class NothingLeft(LookupError):
    """The data that an incident was judged by are not kept any more."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was recorded, and where the tables' files were unpacked to."""

    manifest: Mapping[str, Any]
    tables: Mapping[str, Path]  # an older bundle lacks some (LACKS)


def write_bundle(
    cursor: duckdb.DuckDBPyConnection, incident: Mapping[str, Any], names: Names, settle_ns: int, file: BinaryIO
) -> None:
    """Write the incident's bundle. ``NothingLeft`` when its requests were deleted since."""
    troubles = cursor.execute(
        "SELECT trouble FROM trouble WHERE incident = $incident ORDER BY start_ns, trouble",
        {"incident": incident["id"]},
    ).fetchall()
    concern(cursor, [key for (key,) in troubles])
    rows = choose(cursor)
    ledgers, usuals = read_ledgers(cursor, rows, settle_ns)  # leaves the tables of usual.sql
    verdict = judge_again(ledgers, usuals, names, incident)
    if verdict is None:
        raise NothingLeft(f"the requests of incident {incident['id']} are not kept any more")
    run(cursor, "incidents/bundle_traces.sql")
    narrow_to_traces(cursor, [trace_id for (trace_id,) in cursor.execute("FROM bundle_trace").fetchall()])
    run(cursor, "incidents/bundle_spans.sql")
    ((from_ns, to_ns),) = cursor.execute("FROM bundle_time").fetchall()
    narrow(cursor, from_ns or 0, (to_ns or 0) + 1, POINT)
    run(cursor, "incidents/bundle.sql", {"most_logs": MOST_LOGS})
    (left_out,) = first_row(cursor.execute("FROM bundle_log_left_out")) or (0,)
    manifest = {
        "format": FORMAT,
        "layerline": version("layerline"),
        "settings": {"settle_ns": settle_ns},
        "logs_left_out": left_out,
        "incident": {**incident, "verdict": plain(verdict) | _counted_failures(incident)},
        "judged": [[row.trace_id, row.span_id, row.start_ns] for row in rows],
    }
    with tempfile.TemporaryDirectory(prefix="layerline-bundle-") as folder, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST, _EPOCH), canonical(manifest), zipfile.ZIP_DEFLATED)
        for table in TABLES:
            path = Path(folder) / f"{table}.parquet"
            cursor.execute(f"COPY bundle_{table} TO '{path}' (FORMAT parquet, COMPRESSION zstd)").fetchall()
            with archive.open(zipfile.ZipInfo(path.name, _EPOCH), "w") as member, path.open("rb") as source:
                shutil.copyfileobj(source, member)


def _counted_failures(incident: Mapping[str, Any]) -> dict[str, Any]:
    """How the verdict counts failures: over all requests of the incident, of which a bundle holds some."""
    verdict = incident.get("verdict") or {}
    return {name: verdict[name] for name in COUNTED if name in verdict}


def judge_again(
    ledgers: Sequence[Ledger], usuals: Sequence[Usual | None], names: Names, incident: Mapping[str, Any]
) -> Verdict | None:
    """The verdict of these ledgers as the incident was judged; None where there is none."""
    verdict = judge_window(ledgers, usuals, names, counted_in(incident))
    return timeless(verdict) if verdict and incident.get("kind") == "errors" else verdict


def counted_in(incident: Mapping[str, Any]) -> tuple[int, int] | None:
    """How many requests its verdict's operation had, and how many were affected; None where it has no verdict."""
    verdict = incident.get("verdict") or {}
    return (verdict["requests"], verdict["slow"]) if "requests" in verdict and "slow" in verdict else None


def canonical(value: Any) -> str:
    """JSON with sorted keys and no space to spare: equal values are equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """The bundle in a file, unpacked for as long as the context lasts. ``BadBundle`` when it is none.

    Nothing in it says where to write: its members must have the names that they always have.
    """
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="layerline-bundle-") as folder:
            found = [info.filename for info in archive.infolist()]
            if found.count(MANIFEST) != 1:
                raise BadBundle(f"not a bundle: expected {MANIFEST} in it, found {len(found)} other members")
            manifest = _manifest(_unpacked(archive, MANIFEST, MOST_JSON_BYTES))
            names = [table for table in TABLES if table not in LACKS[manifest["format"]]]
            expected = {MANIFEST, *(f"{table}.parquet" for table in names)}
            if sorted(found) != sorted(expected):
                odd = next(iter(sorted(set(found) ^ expected)), "a name twice")
                raise BadBundle(
                    f"not a bundle: expected its {len(expected)} members, found a difference in {odd[:80]!r}"
                )
            left, tables = MOST_BYTES, {}
            for table in names:
                tables[table] = Path(folder) / f"{table}.parquet"
                data = _unpacked(archive, f"{table}.parquet", left)
                left -= len(data)
                tables[table].write_bytes(data)
            yield Bundle(manifest, tables)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as problem:
        raise BadBundle(f"not a bundle: {problem}") from None


def _unpacked(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member, never more than allowed, whatever its header claims."""
    with archive.open(name) as member:
        data = member.read(most + 1)
    if len(data) > most:
        raise BadBundle(f"{name} is larger than the {most:,} bytes that it may have")
    return data


def _manifest(data: bytes) -> Mapping[str, Any]:
    try:
        manifest = json.loads(data)
        found = manifest["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadBundle(f"{MANIFEST} is not that of a bundle") from None
    if type(found) is not int or found not in LACKS:
        raise BadBundle(f"the bundle has format {str(found)[:20]}; this version reads formats 1 to {FORMAT}")
    judged = manifest.get("judged")
    incident = manifest.get("incident")
    settings = manifest.get("settings")
    if not (
        isinstance(incident, dict)
        and isinstance(incident.get("verdict"), dict)
        and isinstance(settings, dict)
        and type(settings.get("settle_ns")) is int
        and isinstance(judged, list)
        and judged
        and all(_is_key(key) for key in judged)
    ):
        raise BadBundle(f"{MANIFEST} lacks the incident, its verdict, its settings or the requests that were judged")
    return dict(manifest)


def _is_key(key: Any) -> bool:
    return (
        isinstance(key, list)
        and len(key) == 3
        and isinstance(key[0], str)
        and isinstance(key[1], str)
        and type(key[2]) is int
        and abs(key[2]) < 2**63
    )
