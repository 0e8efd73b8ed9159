"""Looks for trouble in what was worked out lately, and keeps the incidents up to date.

One pass looks at the requests that were judged since the pass before, ten minutes of context included, in stretches of
five minutes: what is late, imported or worked out while nobody looked is found the same way. Everything that a pass
must know of the ones before is in the store, so a restart changes nothing.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from layerline_correlator.incidents import slo
from layerline_correlator.incidents.describe import describe
from layerline_correlator.incidents.detect import STEP_NS
from layerline_correlator.incidents.group import Trouble, together
from layerline_correlator.incidents.signs import (
    GAP_NS,
    Base,
    Found,
    Operation,
    Sign,
    begin_ns,
    find,
    finish_ns,
    read_bases,
    read_steps,
)
from layerline_correlator.incidents.verdict import culprits_of
from layerline_correlator.model import resource_key
from layerline_correlator.names import Names
from layerline_correlator.query import plain
from layerline_correlator.store import text

_log = logging.getLogger("layerline.correlator")

#: The shortest time between two passes, and how many times as long as a pass took the next one waits: a twentieth of a
#: core at most, whatever arrives; half a core while there is a past to work through (an import, a new version).
PAUSE_S, IDLE = 5.0, 20
#: What began this recently is left for the next pass: its slow requests have not ended yet.
LATE_NS = 5 * 10**9
#: A pass looks again at what was judged this long before the pass before it: rows are stamped before they are there.
_AGAIN_NS = 15 * 10**9
_BLOCK_NS, _CONTEXT_NS = 300 * 10**9, 600 * 10**9
#: Blocks that one pass works through, at most; the rest is for the next.
_BLOCKS = 24
#: What is usual for the hour before holds for this long: to work it out is nearly all that a pass costs.
_BASE_NS = 60 * 10**9
#: Budgets are looked at this often.
_SLO_NS = 60 * 10**9
#: Trouble without any request for so long is over.
SILENT_NS = 600 * 10**9
#: Trouble that lasts is the new usual from then on.
LASTING_NS = 24 * 3600 * 10**9
#: An incident changes until this long after its end: trouble that returns belongs to it, readings arrive.
SETTLED_NS = 180 * 10**9
#: An open incident is described anew this often.
_TELL_NS = 20 * 10**9
#: Traces of new trouble that are worked out again, as what is usual was not known, at most.
REWORK = 2_000


@dataclass(frozen=True, slots=True)
class Reworked:
    """Traces to work out again, and when their requests began."""

    trace_ids: list[str]
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class _Known:
    """A row of the table ``trouble``."""

    key: str
    incident: str | None
    operation: Operation
    start_ns: int
    end_ns: int | None
    signs: frozenset[Sign]


class Watch:
    """Keeps the tables ``incident`` and ``trouble``. Owns its cursor."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        names: Names,
        settle_ns: int,
        rework: Callable[[Reworked], None],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._cursor, self._names, self._settle_ns = cursor, names, settle_ns
        self._rework, self._clock = rework, clock
        self._lock = threading.Lock()
        self._backlog_ns: int | None = None  # where the pass before stopped, if it did not come to the end
        self._bases: tuple[int, dict[Operation, Base]] | None = None  # as of when; their tables are on the cursor
        self._slos_ns = 0  # when budgets were looked at
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch_forever, name="layerline-incidents", daemon=True)

    def start(self) -> None:
        """Look from now on, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after its pass."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch_forever(self) -> None:
        pause_s = PAUSE_S
        while not self._stopped.wait(pause_s):
            began = time.monotonic()
            try:
                self.look()
            except Exception:  # whatever it was, the next pass may succeed
                _log.exception("incidents could not be looked for; it will be tried again")
            worked_s = time.monotonic() - began
            pause_s = max(PAUSE_S, worked_s if self._backlog_ns is not None else IDLE * worked_s)

    def look(self) -> None:
        """One pass."""
        with self._lock:
            now_ns = self._clock()
            until_ns = (now_ns - LATE_NS) // STEP_NS * STEP_NS
            judged_ns = self._one("SELECT max(judged_ns) FROM watched") or 0
            touched_ns = self._one(
                "SELECT min(start_ns) FROM request WHERE judged_ns >= $since_ns AND start_ns < $until_ns",
                since_ns=judged_ns - _AGAIN_NS,
                until_ns=until_ns,
            )
            starts = [start for start in (touched_ns, self._backlog_ns) if start is not None]
            if starts:
                if min(starts) < until_ns - 2 * _BLOCK_NS:  # what happens now does not wait for the past
                    self._look_at(until_ns - _BLOCK_NS, until_ns)
                self._work_through(min(starts) // STEP_NS * STEP_NS, until_ns)
                if self._backlog_ns is None:
                    self._run("DELETE FROM watched")
                    self._run("INSERT INTO watched VALUES ($now_ns)", now_ns=now_ns)
            self._end_what_is_over(until_ns)
            if now_ns - self._slos_ns >= _SLO_NS:
                self._slos_ns = now_ns
                slo.watch(self._cursor, now_ns)
            self._gather()
            self._tell(now_ns)

    # ---- trouble of single operations

    def _work_through(self, from_ns: int, until_ns: int) -> None:
        for _ in range(_BLOCKS):
            to_ns = min(from_ns + _BLOCK_NS, until_ns)
            self._look_at(from_ns, to_ns)
            if to_ns >= until_ns:
                self._backlog_ns = None
                return
            # What nobody asked for anything in needs no looking at.
            following = self._one(
                "SELECT min(start_ns) FROM request WHERE start_ns >= $to_ns AND start_ns < $until_ns",
                to_ns=to_ns,
                until_ns=until_ns,
            )
            if following is None:
                self._backlog_ns = None
                return
            from_ns = self._backlog_ns = max(to_ns, following // STEP_NS * STEP_NS)

    def _look_at(self, from_ns: int, to_ns: int) -> None:
        """Find trouble that began before ``to_ns``, as it looks then."""
        if self._bases is None or abs(from_ns - self._bases[0]) > _BASE_NS:
            self._bases = from_ns, read_bases(self._cursor, from_ns - _CONTEXT_NS, to_ns, from_ns)
        bases = self._bases[1]
        if not bases:
            return
        window_ns = from_ns - _CONTEXT_NS
        for operation, steps in read_steps(self._cursor, window_ns, to_ns).items():
            current = next(
                iter(
                    self._known(
                        "service = $service AND operation = $operation AND NOT lasting AND end_ns IS NULL"
                        " AND start_ns < $to_ns",
                        service=operation[0],
                        operation=operation[1],
                        to_ns=to_ns,
                    )
                ),
                None,
            )
            found = find(
                steps,
                bases[operation],
                None if current is None else max(window_ns, current.start_ns),
                current.signs if current else (),
            )
            for one in found:
                self._keep(operation, bases[operation], one, to_ns)

    def _keep(self, operation: Operation, base: Base, found: Found, seen_ns: int) -> None:
        """Write a stretch down: as a new trouble, or as what is known of one."""
        same = self._known(
            "service = $service AND operation = $operation AND NOT lasting"
            " AND start_ns < $to_ns AND coalesce(end_ns, $from_ns) >= $from_ns - $gap_ns ORDER BY start_ns",
            service=operation[0],
            operation=operation[1],
            from_ns=found.from_ns,
            to_ns=seen_ns if found.to_ns is None else found.to_ns,
            gap_ns=GAP_NS,
        )
        end_ns = finish_ns(self._cursor, operation, base, found)
        if same:
            last = same[-1]
            if last.end_ns != end_ns or not found.signs <= last.signs:
                self._run(
                    "UPDATE trouble SET end_ns = $end_ns, seen_ns = $seen_ns, signs = $signs::VARCHAR[],"
                    f" causes = {_CAUSES} WHERE trouble = $key",
                    key=last.key,
                    end_ns=end_ns if end_ns is None else max(end_ns, last.start_ns + 1),
                    seen_ns=seen_ns,
                    **_signs(found.signs | last.signs, base),
                )
                self._run("UPDATE incident SET settled = false, told_ns = NULL WHERE incident = $it", it=last.incident)
            return
        start_ns = begin_ns(self._cursor, operation, base, found)
        if end_ns is not None and end_ns <= start_ns:
            return
        key = resource_key({"service": operation[0], "operation": operation[1], "start_ns": str(start_ns)})[:12]
        self._run(
            "INSERT INTO trouble BY NAME SELECT $key AS trouble, NULL AS incident, $service AS service,"
            " $operation AS operation, $start_ns AS start_ns, $end_ns AS end_ns, $noticed_ns AS noticed_ns,"
            " $seen_ns AS seen_ns, $base_ns AS base_ns, $slow_ns AS slow_ns, $signs::VARCHAR[] AS signs,"
            f" {_CAUSES} AS causes, false AS lasting",
            key=key,
            service=operation[0],
            operation=operation[1],
            start_ns=start_ns,
            end_ns=end_ns,
            noticed_ns=found.noticed_ns,
            seen_ns=seen_ns,
            base_ns=base.base_ns,
            slow_ns=base.slow_ns,
            **_signs(found.signs, base),
        )
        # They were compared with what was taken for usual while the trouble was not known yet.
        rows = self._cursor.execute(
            "SELECT trace_id, start_ns FROM request WHERE service = $service AND operation = $operation"
            " AND start_ns >= $from_ns AND start_ns < $to_ns ORDER BY start_ns LIMIT $most",
            {
                "service": operation[0],
                "operation": operation[1],
                "from_ns": start_ns,
                "to_ns": found.noticed_ns if end_ns is None else end_ns,
                "most": REWORK,
            },
        ).fetchall()
        if rows:
            self._rework(Reworked([trace_id for trace_id, _ in rows], rows[0][1], rows[-1][1]))

    def _end_what_is_over(self, until_ns: int) -> None:
        """Trouble that nobody asks for any more, and trouble that has become usual."""
        for one in self._known("end_ns IS NULL AND slo IS NULL"):
            service, operation = one.operation
            last_ns = self._one(
                "SELECT max(end_ns) FROM request WHERE service = $service AND operation = $operation"
                " AND start_ns >= $start_ns",
                service=service,
                operation=operation,
                start_ns=one.start_ns,
            )
            if last_ns is None or last_ns < until_ns - SILENT_NS:
                self._run("UPDATE incident SET told_ns = NULL WHERE incident = $it", it=one.incident)
                self._run(
                    "UPDATE trouble SET end_ns = $end_ns WHERE trouble = $key",
                    key=one.key,
                    end_ns=max(last_ns or 0, one.start_ns + 1),
                )
            elif one.start_ns < until_ns - LASTING_NS:
                self._run(
                    "UPDATE trouble SET end_ns = $end_ns, lasting = true WHERE trouble = $key",
                    key=one.key,
                    end_ns=until_ns,
                )

    # ---- incidents

    def _gather(self) -> None:
        """Put troubles together into incidents, as long as these may change."""
        known = self._known(
            "incident IS NULL OR incident IN (SELECT incident FROM incident WHERE NOT settled) ORDER BY start_ns"
        )
        if not known:
            return
        troubles = []
        for one in known:
            culprits, traces = culprits_of(self._cursor, one.key, self._names, self._settle_ns)
            troubles.append(Trouble(one.key, one.start_ns, one.end_ns, culprits, traces, one.incident))
        for group in together(troubles):
            self._put_together(group)

    def _put_together(self, group: Sequence[Trouble]) -> None:
        """Write down that these troubles are one incident, under the id that was known first."""
        if len({one.incident for one in group}) == 1 and group[0].incident is not None:
            self._run(text("incidents/span_of_incident.sql"), incident=group[0].incident)
            return
        earlier = list(dict.fromkeys(one.incident for one in group if one.incident is not None))
        incident = earlier[0] if earlier else group[0].key
        self._run(
            "UPDATE trouble SET incident = $incident WHERE trouble IN (SELECT unnest($keys::VARCHAR[]))",
            incident=incident,
            keys=[one.key for one in group],
        )
        self._run(
            "UPDATE incident SET merged_into = $incident, settled = true"
            " WHERE incident IN (SELECT unnest($others::VARCHAR[]))",
            incident=incident,
            others=earlier[1:],
        )
        if earlier:
            self._run("UPDATE incident SET told_ns = NULL WHERE incident = $incident", incident=incident)
        else:
            self._run(
                "INSERT INTO incident BY NAME SELECT $incident AS incident, 0 AS start_ns, 0 AS noticed_ns,"
                " false AS settled",
                incident=incident,
            )
        self._run(text("incidents/span_of_incident.sql"), incident=incident)

    def _tell(self, now_ns: int) -> None:
        """Describe what may have changed."""
        rows = self._cursor.execute(
            "SELECT incident, end_ns FROM incident WHERE NOT settled AND merged_into IS NULL"
            " AND (told_ns IS NULL OR told_ns < $before_ns OR end_ns < $over_ns)",
            {"before_ns": now_ns - _TELL_NS, "over_ns": now_ns - SETTLED_NS},
        ).fetchall()
        for incident, end_ns in rows:
            settled = end_ns is not None and end_ns < now_ns - SETTLED_NS
            try:
                told = describe(self._cursor, incident, self._names, self._settle_ns, settled=settled)
            except duckdb.Error:
                _log.exception("incident %s could not be described; it will be tried again", incident)
                continue
            self._run(
                "UPDATE incident SET document = $document, told_ns = $now_ns, settled = $settled"
                " WHERE incident = $incident",
                document=json.dumps(plain(told), ensure_ascii=False),
                now_ns=now_ns,
                settled=settled,
                incident=incident,
            )

    # ---- the tables

    def _known(self, where: str, **values: Any) -> list[_Known]:
        rows = self._cursor.execute(
            f"SELECT trouble, incident, service, operation, start_ns, end_ns, signs, causes FROM trouble WHERE {where}",
            values,
        ).fetchall()
        return [
            _Known(key, incident, (service, operation), start_ns, end_ns, _read_signs(signs, causes))
            for key, incident, service, operation, start_ns, end_ns, signs, causes in rows
        ]

    def _one(self, sql: str, **values: Any) -> Any:
        row = self._cursor.execute(sql, values).fetchone()
        return row[0] if row else None

    def _run(self, sql: str, **values: Any) -> None:
        self._cursor.execute(sql, values).fetchall()


#: The signs that are causes, as a list of structs, from four lists.
_CAUSES = (
    "list_transform(range(1, len($names::VARCHAR[]) + 1), lambda place: {'cause': ($names::VARCHAR[])[place],"
    " 'service': ($services::VARCHAR[])[place], 'address': ($addresses::VARCHAR[])[place],"
    " 'least_ns': ($least::BIGINT[])[place]})"
)


def _signs(signs: frozenset[Sign], base: Base) -> dict[str, list[Any]]:
    causes = sorted(sign for sign in signs if sign.kind == "cause")
    return {
        "signs": sorted({sign.kind for sign in signs}),
        "names": [sign.cause for sign in causes],
        "services": [sign.service for sign in causes],
        "addresses": [sign.address for sign in causes],
        "least": [base.least(sign) for sign in causes],
    }


def _read_signs(kinds: Sequence[str], causes: Sequence[Mapping[str, Any]]) -> frozenset[Sign]:
    return frozenset(
        [Sign(kind) for kind in kinds if kind != "cause"]
        + [Sign("cause", cause["cause"], cause["service"], cause["address"]) for cause in causes]
    )
