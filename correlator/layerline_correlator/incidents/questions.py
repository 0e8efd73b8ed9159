"""What was found, for whoever asks: lists and single incidents, as JSON."""

from __future__ import annotations

import base64
import builtins
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from io import BytesIO
from typing import Any

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.bundle import write_bundle
from layerline_correlator.incidents.model import IncidentItem, IncidentQuery
from layerline_correlator.incidents.slo import Slo, SloState, keep, remove, states
from layerline_correlator.questions.model import BadCursor, Page

#: Requests of an operation in an hour before it has a usual (base.sql).
USUAL_FROM = 20
_FIELDS = tuple(item.name for item in fields(IncidentItem))


class Incidents:
    """Answers from the tables that ``watch`` keeps. Implements ``IncidentQuestions``."""

    def __init__(
        self, reading: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]], names: Names, settle_ns: int
    ) -> None:
        self._reading, self._names, self._settle_ns = reading, names, settle_ns

    def list(self, query: IncidentQuery) -> Page[dict[str, Any]]:
        """The incidents of the window, newest first. ``BadCursor``."""
        conditions = ["document IS NOT NULL AND merged_into IS NULL"]
        conditions.append("start_ns < $to_ns AND coalesce(end_ns, $to_ns) >= $from_ns")
        values: dict[str, Any] = {"from_ns": query.from_ns, "to_ns": query.to_ns, "limit": query.limit + 1}
        if query.state is not None:
            conditions.append("(end_ns IS NULL) = $is_open")
            values["is_open"] = query.state == "open"
        for name in ("service", "operation"):
            if (value := getattr(query, name)) is not None:
                conditions.append(f"incident IN (SELECT incident FROM trouble WHERE {name} = ${name})")
                values[name] = value
        if query.cause is not None:
            conditions.append("document ->> '$.cause' = $cause")
            values["cause"] = query.cause
        if query.cursor is not None:
            conditions.append("(start_ns, incident) < ($after_ns, $after)")
            values["after_ns"], values["after"] = _read_cursor(query.cursor)
        with self._reading() as cursor:
            rows = cursor.execute(
                f"SELECT start_ns, incident, document FROM incident WHERE {' AND '.join(conditions)}"
                " ORDER BY start_ns DESC, incident DESC LIMIT $limit",
                values,
            ).fetchall()
            reason = None if rows else _why_empty(cursor, query)
        items = [
            {name: document[name] for name in _FIELDS}
            for document in (json.loads(text) for *_, text in rows[: query.limit])
        ]
        following = None
        if len(rows) > query.limit:
            start_ns, incident, _ = rows[query.limit - 1]
            following = _write_cursor(start_ns, incident)
        return Page(items, following, reason)

    def one(self, incident: str) -> dict[str, Any] | None:
        """The incident with this id, or the one that it became part of."""
        with self._reading() as cursor:
            for _ in range(10):
                row = cursor.execute(
                    "SELECT document, merged_into FROM incident WHERE incident = $incident", {"incident": incident}
                ).fetchone()
                if row is None or row[1] is None:
                    break
                incident = row[1]
        document: dict[str, Any] | None = json.loads(row[0]) if row and row[0] else None
        return document

    def slos(self) -> builtins.list[SloState]:
        """Every SLO and how its budget stands."""
        with self._reading() as cursor:
            return states(cursor, time.time_ns())

    def set_slo(self, slo: Slo) -> SloState:
        """Keep an SLO, or give it a new objective."""
        with self._reading() as cursor:
            keep(cursor, slo)
            return next(state for state in states(cursor, time.time_ns()) if state.id == slo.id)

    def remove_slo(self, slo: str) -> bool:
        """Forget an SLO; False when there is none with this id."""
        with self._reading() as cursor:
            return remove(cursor, slo)

    def bundle(self, incident: str) -> bytes | None:
        """The incident as one file (bundle.py); None for an unknown one. ``NothingLeft``."""
        document = self.one(incident)
        if document is None:
            return None
        file = BytesIO()
        with self._reading() as cursor:
            write_bundle(cursor, document, self._names, self._settle_ns, file)
        return file.getvalue()


def _why_empty(cursor: duckdb.DuckDBPyConnection, query: IncidentQuery) -> str:
    window = {"from_ns": query.from_ns, "to_ns": query.to_ns}
    received = cursor.execute(
        "SELECT count(*) FROM request WHERE start_ns >= $from_ns AND start_ns < $to_ns", window
    ).fetchone()
    if not received or not received[0]:
        return "no request was received in this window"
    found = cursor.execute(
        "SELECT count(*) FROM incident WHERE document IS NOT NULL AND merged_into IS NULL"
        " AND start_ns < $to_ns AND coalesce(end_ns, $to_ns) >= $from_ns",
        window,
    ).fetchone()
    if found and found[0]:
        return f"none of the {found[0]} incidents in this window matches the filters"
    most = cursor.execute(
        "SELECT max(requests) FROM (SELECT count(*) AS requests FROM request"
        " WHERE end_ns > $to_ns - 3_600_000_000_000 AND start_ns < $to_ns GROUP BY service, operation)",
        {"to_ns": query.to_ns},
    ).fetchone()
    if not most or (most[0] or 0) < USUAL_FROM:
        return f"no usual yet: nothing can be unusual before {USUAL_FROM} requests of an operation in an hour"
    return f"no operation was in trouble more often than usual ({received[0]} requests in this window)"


def _write_cursor(start_ns: int, incident: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(["incidents", start_ns, incident]).encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[int, str]:
    try:
        kind, start_ns, incident = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError):
        raise BadCursor("expected a cursor from this list's `next`") from None
    if kind != "incidents" or type(start_ns) is not int or abs(start_ns) >= 2**63 or not isinstance(incident, str):
        raise BadCursor("expected a cursor of the list of incidents")
    return start_ns, incident
