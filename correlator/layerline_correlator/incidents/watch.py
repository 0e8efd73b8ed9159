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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import duckdb

from layerline_correlator.incidents import slo
from layerline_correlator.incidents.describe import describe
from layerline_correlator.incidents.detect import STEP_NS, Stretch
from layerline_correlator.incidents.group import Blamed, Trouble, together
from layerline_correlator.incidents.signs import (
    GAP_NS,
    Base,
    Lasted,
    Operation,
    Sign,
    begun,
    end_of,
    find,
    finished,
    read_bases,
    read_steps,
)
from layerline_correlator.incidents.takeover import OUTLIVES_NS, Takeover, divided, joined, takeovers
from layerline_correlator.incidents.verdict import concern, culprits_of, leader
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
    noticed_ns: int
    end_ns: int | None
    lasted: tuple[Lasted, ...]
    least_ns: Mapping[Sign, int]  # of each sign that is a cause
    apart: str | None  # the incident that its own was split off from


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
            if self._split(until_ns):
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
        self._end_what_is_over(from_ns)
        if self._bases is None or abs(from_ns - self._bases[0]) > _BASE_NS:
            self._bases = from_ns, read_bases(self._cursor, from_ns - _CONTEXT_NS, to_ns, from_ns)
        bases = self._bases[1]
        if not bases:
            return
        window_ns = from_ns - _CONTEXT_NS
        for operation, steps in read_steps(self._cursor, window_ns, to_ns).items():
            going_on = self._known(
                "service = $service AND operation = $operation AND NOT lasting AND end_ns IS NULL"
                " AND start_ns < $to_ns",
                service=operation[0],
                operation=operation[1],
                to_ns=to_ns,
            )
            open_since = {
                sign: max(window_ns, stretch.from_ns)
                for one in going_on
                for sign, stretch in one.lasted
                if stretch.to_ns is None
            }
            for lasted in find(steps, bases[operation], open_since):
                self._keep(operation, bases[operation], lasted, to_ns)

    def _keep(self, operation: Operation, base: Base, lasted: Sequence[Lasted], seen_ns: int) -> None:
        """Write stretches down: as a new trouble, or as what is known of those that they belong to."""
        end_ns = end_of(lasted)
        known = self._known(
            "service = $service AND operation = $operation AND NOT lasting"
            " AND start_ns < $to_ns AND coalesce(end_ns, $from_ns) >= $from_ns - $gap_ns ORDER BY start_ns",
            service=operation[0],
            operation=operation[1],
            from_ns=lasted[0][1].from_ns,
            to_ns=seen_ns if end_ns is None else end_ns,
            gap_ns=GAP_NS,
        )
        if not known:
            self._begin(operation, base, lasted, seen_ns)
            return
        known = self._without_twins(known)
        for one in known:
            if belonging := [item for item in lasted if _owner(item, known) is one]:
                self._go_on(one, base, belonging, seen_ns)

    def _begin(self, operation: Operation, base: Base, lasted: Sequence[Lasted], seen_ns: int) -> None:
        exact = [self._exact(operation, base, sign, stretch) for sign, stretch in lasted]
        start_ns, end_ns = min(stretch.from_ns for _, stretch in exact), end_of(exact)
        if end_ns is not None and end_ns <= start_ns:
            return
        noticed_ns = min(stretch.noticed_ns for _, stretch in exact)
        self._run(
            "INSERT INTO trouble BY NAME SELECT $key AS trouble, NULL AS incident, $service AS service,"
            " $operation AS operation, $start_ns AS start_ns, $end_ns AS end_ns, $noticed_ns AS noticed_ns,"
            " $seen_ns AS seen_ns, $base_ns AS base_ns, $slow_ns AS slow_ns, $signs::VARCHAR[] AS signs,"
            f" $causes::{_CAUSES} AS causes, false AS lasting, $stretches::{_STRETCHES} AS stretches",
            key=_key(operation, start_ns),
            service=operation[0],
            operation=operation[1],
            start_ns=start_ns,
            end_ns=end_ns,
            noticed_ns=noticed_ns,
            seen_ns=seen_ns,
            base_ns=base.base_ns,
            slow_ns=base.slow_ns,
            **_columns(exact, {sign: base.least(sign) for sign, _ in exact}),
        )
        self._judge_again(operation, start_ns, noticed_ns if end_ns is None else end_ns)

    def _go_on(self, one: _Known, base: Base, lasted: Sequence[Lasted], seen_ns: int) -> None:
        """What is known of a trouble, and what was found of it now."""
        known, start_ns = list(one.lasted), one.start_ns
        for sign, stretch in lasted:
            if one.apart is not None:  # what was before is the trouble's that it was split off from
                stretch = replace(stretch, from_ns=max(stretch.from_ns, one.start_ns))
                if stretch.to_ns is not None and stretch.to_ns <= stretch.from_ns:
                    continue
            place = next((n for n, item in enumerate(known) if item[0] == sign and _near(item[1], stretch)), None)
            if place is None:
                known.append(self._exact(one.operation, base, sign, stretch))
                continue
            before = known[place][1]
            if stretch.from_ns < before.from_ns // STEP_NS * STEP_NS:  # came late, or was worked through late
                before = begun(self._cursor, one.operation, base, sign, stretch)
                start_ns = min(start_ns, before.from_ns)
            known[place] = (
                sign,
                finished(self._cursor, one.operation, base, sign, replace(before, to_ns=stretch.to_ns)),
            )
        end_ns = end_of(known)
        if (tuple(known), start_ns, end_ns) == (one.lasted, one.start_ns, one.end_ns):
            return
        self._run(
            "UPDATE trouble SET start_ns = $start_ns, end_ns = $end_ns, seen_ns = $seen_ns, signs = $signs::VARCHAR[],"
            f" causes = $causes::{_CAUSES}, stretches = $stretches::{_STRETCHES} WHERE trouble = $key",
            key=one.key,
            start_ns=start_ns,
            end_ns=end_ns if end_ns is None else max(end_ns, start_ns + 1),
            seen_ns=seen_ns,
            **_columns(known, {sign: base.least(sign) for sign, _ in known} | dict(one.least_ns)),
        )
        self._changed(one.incident)
        if start_ns < one.start_ns:
            self._judge_again(one.operation, start_ns, one.start_ns)

    def _without_twins(self, known: Sequence[_Known]) -> list[_Known]:
        """Troubles of one operation in order of start; those that were found twice, from either end, made one."""
        kept = [known[0]]
        for one in known[1:]:
            last = kept[-1]
            split = one.apart is not None and one.apart == last.incident
            if split or (last.end_ns is not None and last.end_ns <= one.start_ns):
                kept.append(one)
                continue
            lasted = tuple(joined([*last.lasted, *one.lasted]))
            least_ns = {**one.least_ns, **last.least_ns}
            kept[-1] = replace(
                last,
                incident=last.incident or one.incident,
                end_ns=end_of(lasted),
                lasted=lasted,
                least_ns=least_ns,
                apart=last.apart or one.apart,
            )
            self._run("DELETE FROM trouble WHERE trouble = $key", key=one.key)
            self._run(
                "UPDATE trouble SET incident = $incident, end_ns = $end_ns, signs = $signs::VARCHAR[],"
                f" causes = $causes::{_CAUSES}, stretches = $stretches::{_STRETCHES} WHERE trouble = $key",
                key=last.key,
                incident=kept[-1].incident,
                end_ns=kept[-1].end_ns,
                **_columns(lasted, least_ns),
            )
            if last.incident is not None and one.incident not in (None, last.incident):
                self._run(
                    "UPDATE trouble SET incident = $incident WHERE incident = $other",
                    incident=last.incident,
                    other=one.incident,
                )
                self._merge(last.incident, [one.incident])
            self._changed(kept[-1].incident)
        return kept

    def _exact(self, operation: Operation, base: Base, sign: Sign, stretch: Stretch) -> Lasted:
        """The stretch by its requests instead of by its steps."""
        whole = begun(self._cursor, operation, base, sign, stretch)
        return sign, finished(self._cursor, operation, base, sign, whole)

    def _judge_again(self, operation: Operation, from_ns: int, to_ns: int) -> None:
        """They were compared with what was taken for usual while the trouble was not known yet."""
        rows = self._cursor.execute(
            "SELECT trace_id, start_ns FROM request WHERE service = $service AND operation = $operation"
            " AND start_ns >= $from_ns AND start_ns < $to_ns ORDER BY start_ns LIMIT $most",
            {"service": operation[0], "operation": operation[1], "from_ns": from_ns, "to_ns": to_ns, "most": REWORK},
        ).fetchall()
        if rows:
            self._rework(Reworked([trace_id for trace_id, _ in rows], rows[0][1], rows[-1][1]))

    def _end_what_is_over(self, until_ns: int) -> None:
        """Trouble that nobody asks for any more, and trouble that has become usual, as of ``until_ns``."""
        for one in self._known(
            "end_ns IS NULL AND slo IS NULL AND start_ns < $silent_ns", silent_ns=until_ns - SILENT_NS
        ):
            service, operation = one.operation
            last_ns = self._one(
                "SELECT max(end_ns) FROM request WHERE service = $service AND operation = $operation"
                " AND start_ns >= $start_ns AND start_ns < $until_ns",
                service=service,
                operation=operation,
                start_ns=one.start_ns,
                until_ns=until_ns,
            )
            if last_ns is None or last_ns < until_ns - SILENT_NS:
                concern(self._cursor, [one.key])
                affected_ns = self._one(
                    "SELECT max(end_ns) FROM concerned WHERE affected AND start_ns < $until_ns", until_ns=until_ns
                )
                self._end(one, max(affected_ns or 0, one.start_ns + 1), lasting=False)
            elif one.start_ns < until_ns - LASTING_NS:
                self._end(one, until_ns, lasting=True)

    def _end(self, one: _Known, end_ns: int, *, lasting: bool) -> None:
        lasted = [
            (sign, replace(stretch, to_ns=max(end_ns, stretch.from_ns + 1)) if stretch.to_ns is None else stretch)
            for sign, stretch in one.lasted
        ]
        self._run(
            f"UPDATE trouble SET end_ns = $end_ns, lasting = $lasting, stretches = $stretches::{_STRETCHES}"
            " WHERE trouble = $key",
            key=one.key,
            end_ns=end_ns,
            lasting=lasting,
            stretches=_columns(lasted, {})["stretches"],
        )
        self._run("UPDATE incident SET told_ns = NULL WHERE incident = $it", it=one.incident)

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
            troubles.append(Trouble(one.key, one.start_ns, one.end_ns, culprits, traces, one.incident, one.apart))
        for group in together(troubles):
            self._put_together(group)

    def _put_together(self, group: Sequence[Trouble]) -> None:
        """Write down that these troubles are one incident, under the id that was known first."""
        if len({one.incident for one in group}) == 1 and group[0].incident is not None:
            self._run(text("incidents/span_of_incident.sql"), incident=group[0].incident)
            return
        earlier = list(dict.fromkeys(one.incident for one in group if one.incident is not None))
        incident = earlier[0] if earlier else group[0].key
        if not earlier:
            self._open(incident, None)
        self._move([one.key for one in group], incident)
        self._merge(incident, earlier[1:])

    def _open(self, incident: str, split_from: str | None) -> None:
        """A row for a new incident; an id that had become part of another may stand for itself again."""
        self._run("DELETE FROM incident WHERE incident = $incident", incident=incident)
        self._run(
            "INSERT INTO incident BY NAME SELECT $incident AS incident, 0 AS start_ns, 0 AS noticed_ns,"
            " false AS settled, $split_from AS split_from",
            incident=incident,
            split_from=split_from,
        )

    def _move(self, troubles: Sequence[str], incident: str) -> None:
        self._run(
            "UPDATE trouble SET incident = $incident WHERE trouble IN (SELECT unnest($keys::VARCHAR[]))",
            incident=incident,
            keys=list(troubles),
        )
        self._run(text("incidents/span_of_incident.sql"), incident=incident)
        self._run("UPDATE incident SET told_ns = NULL WHERE incident = $incident", incident=incident)

    def _merge(self, incident: str, others: Sequence[str]) -> None:
        """The others turned out to be part of this incident; their troubles are its own already."""
        values = {"incident": incident, "others": list(others)}
        self._run(
            "UPDATE incident SET merged_into = $incident, settled = true"
            " WHERE incident IN (SELECT unnest($others::VARCHAR[]))",
            **values,
        )
        self._run(
            "UPDATE incident SET split_from = $incident WHERE split_from IN (SELECT unnest($others::VARCHAR[]))"
            " AND incident <> $incident",
            **values,
        )

    def _split(self, until_ns: int) -> bool:
        """Split incidents in which one fault followed another without healthy time between. True when there was one."""
        rows = self._cursor.execute("SELECT incident FROM incident WHERE NOT settled ORDER BY start_ns").fetchall()
        return any([self._split_one(incident, until_ns) for (incident,) in rows])  # noqa: C419 - each must be looked at

    def _split_one(self, incident: str, until_ns: int) -> bool:
        troubles = self._known("incident = $incident AND slo IS NULL ORDER BY start_ns, trouble", incident=incident)
        for found in takeovers((item for one in troubles for item in one.lasted), until_ns):
            if self._has_taken_over(troubles, found):
                later = self._after(troubles, found)
                self._open(later[0], incident)
                self._move(later, later[0])
                self._run(text("incidents/span_of_incident.sql"), incident=incident)
                self._changed(incident)
                self._split_one(later[0], until_ns)
                return True
        return False

    def _has_taken_over(self, troubles: Sequence[_Known], found: Takeover) -> bool:
        """Whether the one really was first to blame while it was alone, and the other is since."""
        keys = [one.key for one in troubles]
        spans = ((found.from_ns, min(found.over_ns, found.began_ns)), (found.over_ns, found.to_ns))
        first, second = (
            leader(self._cursor, keys, from_ns, to_ns, self._names, self._settle_ns) for from_ns, to_ns in spans
        )
        if first is None or second is None or first.same(second):
            return False
        return _sign_of(first) == found.over and _sign_of(second) == found.began

    def _after(self, troubles: Sequence[_Known], found: Takeover) -> list[str]:
        """End the troubles of an incident where its cause was over; those since the next began, the earliest first."""
        later = []
        for one in troubles:
            ends = [
                st.to_ns for sign, st in one.lasted if sign == found.over and st.from_ns < found.over_ns and st.to_ns
            ]
            begins = [
                st.from_ns
                for sign, st in one.lasted
                if sign == found.began and found.began_ns <= st.from_ns < found.to_ns
            ]
            only_later = bool(begins) and not ends and one.start_ns >= found.began_ns - GAP_NS
            if only_later or one.start_ns >= found.began_ns:
                later.append((one.start_ns, one.key))
                continue
            if one.end_ns is not None and one.end_ns < found.over_ns + OUTLIVES_NS:
                continue
            over_ns, began_ns = max(ends, default=found.over_ns), min(begins, default=found.began_ns)
            before, after = divided(one.lasted, over_ns, began_ns)
            if before and after:
                later.append((began_ns, self._cut(one, before, after)))
            elif after:
                later.append((one.start_ns, one.key))
        return [key for _, key in sorted(later)]

    def _cut(self, one: _Known, before: Sequence[Lasted], after: Sequence[Lasted]) -> str:
        """Make two troubles of one; the key of the second."""
        start_ns, end_ns = min(stretch.from_ns for _, stretch in after), end_of(after)
        key = _key(one.operation, start_ns)
        columns = (
            "end_ns = $end_ns, signs = $signs::VARCHAR[],"
            f" causes = $causes::{_CAUSES}, stretches = $stretches::{_STRETCHES}"
        )
        self._run(
            "INSERT INTO trouble SELECT * REPLACE ($key AS trouble, NULL AS incident, $start_ns AS start_ns,"
            " $noticed_ns AS noticed_ns) FROM trouble WHERE trouble = $old",
            key=key,
            old=one.key,
            start_ns=start_ns,
            noticed_ns=min(stretch.noticed_ns for _, stretch in after),
        )
        for which, lasted, until_ns in ((one.key, before, end_of(before)), (key, after, end_ns)):
            self._run(
                f"UPDATE trouble SET {columns} WHERE trouble = $key",
                key=which,
                end_ns=until_ns,
                **_columns(lasted, one.least_ns),
            )
        return key

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
            "SELECT trouble, incident, service, operation, start_ns, noticed_ns, end_ns, signs, causes, stretches,"
            " (SELECT split_from FROM incident AS its WHERE its.incident = trouble.incident)"
            f" FROM trouble WHERE {where}",
            values,
        ).fetchall()
        found = []
        for key, incident, service, operation, start_ns, noticed_ns, end_ns, signs, causes, stretches, apart in rows:
            least_ns = {
                Sign("cause", cause["cause"], cause["service"], cause["address"]): cause["least_ns"] for cause in causes
            }
            # One that an earlier version wrote has no stretches: each sign was seen all the time.
            whole = Stretch(start_ns, noticed_ns, end_ns)
            lasted = (
                tuple((sign, whole) for sign in (*(Sign(kind) for kind in signs if kind != "cause"), *least_ns))
                if stretches is None
                else tuple(_read(stretch) for stretch in stretches)
            )
            found.append(
                _Known(key, incident, (service, operation), start_ns, noticed_ns, end_ns, lasted, least_ns, apart)
            )
        return found

    def _changed(self, incident: str | None) -> None:
        self._run("UPDATE incident SET settled = false, told_ns = NULL WHERE incident = $it", it=incident)

    def _one(self, sql: str, **values: Any) -> Any:
        row = self._cursor.execute(sql, values).fetchone()
        return row[0] if row else None

    def _run(self, sql: str, **values: Any) -> None:
        self._cursor.execute(sql, values).fetchall()


_CAUSES = "STRUCT(cause VARCHAR, service VARCHAR, address VARCHAR, least_ns BIGINT)[]"
_STRETCHES = (
    "STRUCT(kind VARCHAR, cause VARCHAR, service VARCHAR, address VARCHAR,"
    " from_ns BIGINT, noticed_ns BIGINT, to_ns BIGINT)[]"
)


def _columns(lasted: Iterable[Lasted], least_ns: Mapping[Sign, int]) -> dict[str, list[Any]]:
    """The columns ``signs``, ``causes`` and ``stretches``."""
    told = sorted(lasted, key=lambda item: (item[0], item[1].from_ns))
    return {
        "signs": sorted({sign.kind for sign, _ in told}),
        "causes": [
            {"cause": sign.cause, "service": sign.service, "address": sign.address, "least_ns": least_ns[sign]}
            for sign in dict.fromkeys(sign for sign, _ in told if sign.kind == "cause" and sign in least_ns)
        ],
        "stretches": [asdict(sign) | asdict(stretch) for sign, stretch in told],
    }


def _read(stretch: Mapping[str, Any]) -> Lasted:
    return (
        Sign(stretch["kind"], stretch["cause"], stretch["service"], stretch["address"]),
        Stretch(stretch["from_ns"], stretch["noticed_ns"], stretch["to_ns"]),
    )


def _key(operation: Operation, start_ns: int) -> str:
    return resource_key({"service": operation[0], "operation": operation[1], "start_ns": str(start_ns)})[:12]


def _near(one: Stretch, other: Stretch) -> bool:
    """Whether there is no more than ``GAP_NS`` between them."""
    first, second = sorted((one, other), key=lambda each: each.from_ns)
    return first.to_ns is None or second.from_ns <= first.to_ns + GAP_NS


def _owner(item: Lasted, known: Sequence[_Known]) -> _Known:
    """Of troubles of one operation, in order of start, the one that a stretch belongs to."""
    sign, stretch = item
    for one in reversed(known):
        if any(sign == of_it and _near(stretch, known_stretch) for of_it, known_stretch in one.lasted):
            return one
    begun_before = [one for one in known if stretch.to_ns is None or one.start_ns < stretch.to_ns]
    return begun_before[-1] if begun_before else known[0]


def _sign_of(culprit: Blamed) -> Sign:
    """The sign by which a culprit's cause is counted."""
    address = culprit.entity_id if culprit.entity_type == "service" else ""
    return Sign("cause", culprit.cause, culprit.service, address)
