"""Incidents that were found: lists of them, each as a whole or as a file, and the SLOs that some are found by."""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from io import BytesIO
from typing import Any, Protocol

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.bundle import write_bundle
from layerline_correlator.incidents.model import IncidentItem
from layerline_correlator.incidents.slo import Slo, SloState, keep, remove, states
from layerline_correlator.questions.paging import Order, Page
from layerline_correlator.store.statements import first_row

#: Requests of an operation in an hour before it has a usual (base.sql).
USUAL_FROM = 20
_ORDER = Order("incidents", {"start_ns": int, "incident": str}, descending=True)
_FIELDS = tuple(item.name for item in fields(IncidentItem))


@dataclass(frozen=True, slots=True)
class IncidentQuery:
    """Which incidents: those that were ongoing at some time of a window, and filters."""

    from_ns: int
    to_ns: int
    state: str | None = None  # "open" | "ended"
    service: str | None = None
    operation: str | None = None
    cause: str | None = None  # the first culprit's
    limit: int = 50
    cursor: str | None = None


class IncidentQuestions(Protocol):
    """What the API may ask about incidents."""

    def list(self, query: IncidentQuery) -> Page[dict[str, Any]]:
        """The incidents of the window, newest first, as ``IncidentItem`` in JSON. ``BadCursor``."""

    def one(self, incident: str) -> dict[str, Any] | None:
        """The incident with this id (or the one it became part of), as ``Incident`` in JSON."""

    def slos(self) -> builtins.list[SloState]:
        """Every SLO and how its budget stands."""

    def set_slo(self, slo: Slo) -> SloState:
        """Keep an SLO, or give it a new objective."""

    def remove_slo(self, slo: str) -> bool:
        """Forget an SLO; False when there is none with this id."""

    def bundle(self, incident: str) -> bytes | None:
        """The incident as one file that can be judged again elsewhere. ``NothingLeft``."""


class Incidents:
    """Answers from the tables that ``incidents.watch`` keeps. Implements ``IncidentQuestions``."""

    def __init__(
        self,
        reading: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]],
        writing: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]],
        names: Names,
        settle_ns: int,
    ) -> None:
        self._reading, self._writing, self._names, self._settle_ns = reading, writing, names, settle_ns

    def list(self, query: IncidentQuery) -> Page[dict[str, Any]]:
        """The incidents of the window, newest first. ``BadCursor``."""
        page = _ORDER.slice(query.cursor, query.limit)
        conditions = ["document IS NOT NULL AND merged_into IS NULL", page.condition]
        conditions.append("start_ns < $to_ns AND coalesce(end_ns, $to_ns) >= $from_ns")
        values: dict[str, Any] = {"from_ns": query.from_ns, "to_ns": query.to_ns} | page.bound
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
        with self._reading() as cursor:
            rows = cursor.execute(
                f"SELECT start_ns, incident, document FROM incident WHERE {' AND '.join(conditions)} {page.end}",
                values,
            ).fetchall()
            reason = None if rows else _why_empty(cursor, query)
        shown, following = page.cut(rows, lambda row: (row[0], row[1]))
        # An earlier version described some of them, and knew no kinds.
        documents = [{"kind": "time"} | json.loads(text) for *_, text in shown]
        items = [{name: document[name] for name in _FIELDS} for document in documents]
        return Page(items, following, reason)

    def one(self, incident: str) -> dict[str, Any] | None:
        """The incident with this id, or the one that it became part of."""
        with self._reading() as cursor:
            for _ in range(10):
                row = first_row(
                    cursor.execute(
                        "SELECT document, merged_into FROM incident WHERE incident = $incident", {"incident": incident}
                    )
                )
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
        with self._writing() as cursor:
            keep(cursor, slo)
            return next(state for state in states(cursor, time.time_ns()) if state.id == slo.id)

    def remove_slo(self, slo: str) -> bool:
        """Forget an SLO; False when there is none with this id."""
        with self._writing() as cursor:
            return remove(cursor, slo)

    def bundle(self, incident: str) -> bytes | None:
        """The incident as one file (``incidents.bundle``); None for an unknown one. ``NothingLeft``."""
        document = self.one(incident)
        if document is None:
            return None
        file = BytesIO()
        with self._reading() as cursor:
            write_bundle(cursor, document, self._names, self._settle_ns, file)
        return file.getvalue()


def _why_empty(cursor: duckdb.DuckDBPyConnection, query: IncidentQuery) -> str:
    window = {"from_ns": query.from_ns, "to_ns": query.to_ns}
    received = first_row(
        cursor.execute("SELECT count(*) FROM request WHERE start_ns >= $from_ns AND start_ns < $to_ns", window)
    )
    if not received or not received[0]:
        return "no request was received in this window"
    found = first_row(
        cursor.execute(
            "SELECT count(*) FROM incident WHERE document IS NOT NULL AND merged_into IS NULL"
            " AND start_ns < $to_ns AND coalesce(end_ns, $to_ns) >= $from_ns",
            window,
        )
    )
    if found and found[0]:
        return f"none of the {found[0]} incidents in this window matches the filters"
    most = first_row(
        cursor.execute(
            "SELECT max(requests) FROM (SELECT count(*) AS requests FROM request"
            " WHERE end_ns > $to_ns - 3_600_000_000_000 AND start_ns < $to_ns GROUP BY service, operation)",
            {"to_ns": query.to_ns},
        )
    )
    if not most or (most[0] or 0) < USUAL_FROM:
        return f"no usual yet: nothing can be unusual before {USUAL_FROM} requests of an operation in an hour"
    return f"no operation was in trouble more often than usual ({received[0]} requests in this window)"
