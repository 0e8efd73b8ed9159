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
from dataclasses import replace
from typing import Any

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents import slo
from layerline_correlator.incidents.describe import describe
from layerline_correlator.incidents.detect import STEP_NS, Stretch
from layerline_correlator.incidents.gather import Gathering
from layerline_correlator.incidents.late_calls import Found, LateCalls
from layerline_correlator.incidents.signs import (
    GAP_NS,
    OF_CALLS,
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
from layerline_correlator.incidents.takeover import joined
from layerline_correlator.incidents.troubles import (
    CAUSES,
    SET_COLUMNS,
    STRETCHES,
    Known,
    columns,
    key_of,
    near,
    owner,
    read_troubles,
)
from layerline_correlator.incidents.verdict import concern
from layerline_correlator.plain import plain
from layerline_correlator.store.disk import disk_problem
from layerline_correlator.store.store import Extent
from layerline_correlator.threads import Threads

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


class Watch:
    """Keeps the tables ``incident`` and ``trouble``. Owns its cursor."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        names: Names,
        settle_ns: int,
        rework: Callable[[Mapping[str, Extent]], None],
        clock: Callable[[], int] = time.time_ns,
        threads: Threads | None = None,
    ) -> None:
        self._cursor, self._names, self._settle_ns = cursor, names, settle_ns
        self._rework, self._clock = rework, clock
        self._gathering = Gathering(cursor, names, settle_ns)
        self._late_calls = LateCalls(cursor)
        self._lock = threading.Lock()
        self._backlog_ns: int | None = None  # where the pass before stopped, if it did not come to the end
        self._bases: tuple[int, dict[Operation, Base]] | None = None  # as of when; their tables are on the cursor
        self._is_recording = False
        self._slos_ns = 0  # when budgets were looked at
        self._stopped = threading.Event()
        self._threads = threads or Threads()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look from now on, in a thread of its own."""
        self._thread = self._threads.start("layerline-incidents", self._watch_forever)

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, wait: bool = True) -> None:
        """End the thread, after its pass."""
        self._stopped.set()
        if wait and self._thread is not None:
            self._thread.join()

    def _watch_forever(self) -> None:
        pause_s = PAUSE_S
        while not self._stopped.wait(pause_s):
            began = time.monotonic()
            try:
                self.look()
            except Exception as problem:  # whatever it was, the next pass may succeed
                if self._stopped.is_set():  # it was cut off
                    return
                if (said := disk_problem(problem)) is not None:
                    _log.error("incidents could not be looked for: %s; it will be tried again", said)
                else:
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
            self._gathering.gather()
            if self._gathering.split(until_ns):
                self._gathering.gather()
            self._tell(now_ns)

    def live_through(self, from_ns: int, until_ns: int, *, by_rows: bool = False) -> None:
        """Look at what began in this time, as a pass at its end would have done: for recordings (``lived.py``).

        ``by_rows``: at slow and failed requests only, because the ledgers of this time are yet to be worked out.
        """
        self._is_recording = True
        with self._lock:
            self._backlog_ns = from_ns // STEP_NS * STEP_NS
            until_ns = until_ns // STEP_NS * STEP_NS
            while self._backlog_ns is not None and self._backlog_ns < until_ns and not self._stopped.is_set():
                self._work_through(self._backlog_ns, until_ns, by_rows=by_rows)
            self._backlog_ns = None
            if not by_rows:
                self._end_what_is_over(until_ns)
                self._gathering.gather()

    def end_of_recording(self) -> None:
        """What was found in a recording is over, and is described; what was judged so far was looked at."""
        self._run("DELETE FROM watched")
        self._run("INSERT INTO watched VALUES ($now_ns)", now_ns=self._clock() + _AGAIN_NS)
        self.look()

    # ---- trouble of single operations

    def _work_through(self, from_ns: int, until_ns: int, *, by_rows: bool = False) -> None:
        for _ in range(_BLOCKS):
            to_ns = min(from_ns + _BLOCK_NS, until_ns)
            self._look_at(from_ns, to_ns, by_rows=by_rows)
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

    def _look_at(self, from_ns: int, to_ns: int, *, by_rows: bool = False) -> None:
        """Find trouble that began before ``to_ns``, as it looks then."""
        self._end_what_is_over(from_ns)
        if self._bases is None or abs(from_ns - self._bases[0]) > _BASE_NS:
            self._bases = from_ns, read_bases(self._cursor, from_ns - _CONTEXT_NS, to_ns, from_ns)
        bases = self._bases[1]
        if not bases:
            return
        window_ns = from_ns - _CONTEXT_NS
        for operation, steps in read_steps(self._cursor, window_ns, to_ns).items():
            ongoing = self._known(
                "service = $service AND operation = $operation AND NOT lasting AND end_ns IS NULL"
                " AND start_ns < $to_ns",
                service=operation[0],
                operation=operation[1],
                to_ns=to_ns,
            )
            open_since = {
                sign: max(window_ns, stretch.from_ns)
                for one in ongoing
                for sign, stretch in one.lasted
                if stretch.to_ns is None and sign.kind not in OF_CALLS
            }
            if by_rows:
                steps = {sign: counts for sign, counts in steps.items() if sign.kind != "cause"}
                open_since = {sign: since_ns for sign, since_ns in open_since.items() if sign.kind != "cause"}
            for lasted in find(steps, bases[operation], open_since):
                self._keep(operation, bases[operation], lasted, to_ns)
        if by_rows or not self._is_recording:  # ledgers add nothing to what calls say
            self._look_at_calls(window_ns, from_ns, to_ns, bases)

    def _look_at_calls(self, window_ns: int, from_ns: int, to_ns: int, bases: Mapping[Operation, Base]) -> None:
        """Find calls that were late, or failed, too often, for requests that show nothing of it themselves."""
        ongoing = [
            (one, sign, stretch)
            for one in self._known("NOT lasting AND end_ns IS NULL AND start_ns < $to_ns", to_ns=to_ns)
            for sign, stretch in one.lasted
            if stretch.to_ns is None and sign.kind in OF_CALLS
        ]
        open_since: dict[tuple[str, Sign], int] = {}
        for one, sign, stretch in ongoing:
            key = one.operation[0], sign
            open_since[key] = min(open_since.get(key, stretch.from_ns), stretch.from_ns)
        for found in self._late_calls.find(window_ns, from_ns, to_ns, open_since, usual_for_ns=_BASE_NS):
            its = found.caller, found.sign
            names = sorted({one.operation[1] for one, sign, _ in ongoing if (one.operation[0], sign) == its})
            names += [
                name for name in found.operations if name not in names and not self._is_in_trouble(found, name, to_ns)
            ]
            for name in names:
                operation = found.caller, name
                base = bases.get(operation) or self._late_calls.base_of(operation, found.stretch.from_ns)
                base = replace(base, usual=base.usual | {found.sign: found.usual})
                self._keep(operation, base, [(found.sign, found.stretch)], to_ns)
            self._late_calls.write_down(found, names, to_ns)

    def _is_in_trouble(self, found: Found, operation: str, to_ns: int) -> bool:
        """Whether the operation's own requests showed, at about that time, that something is wrong: that tells it."""
        return any(
            any(sign.kind not in OF_CALLS for sign, _ in one.lasted)
            for one in self._known(
                "service = $service AND operation = $operation AND NOT lasting"
                " AND start_ns < $to_ns AND coalesce(end_ns, $from_ns) >= $from_ns - $gap_ns",
                service=found.caller,
                operation=operation,
                from_ns=found.stretch.from_ns,
                to_ns=to_ns if found.stretch.to_ns is None else found.stretch.to_ns,
                gap_ns=GAP_NS,
            )
        )

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
            if belonging := [item for item in lasted if owner(item, known) is one]:
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
            f" $causes::{CAUSES} AS causes, false AS lasting, $stretches::{STRETCHES} AS stretches",
            key=key_of(operation, start_ns),
            service=operation[0],
            operation=operation[1],
            start_ns=start_ns,
            end_ns=end_ns,
            noticed_ns=noticed_ns,
            seen_ns=seen_ns,
            base_ns=base.base_ns,
            slow_ns=base.slow_from_ns({sign.kind for sign, _ in exact}),
            **columns(exact, {sign: base.least(sign) for sign, _ in exact}),
        )
        self._judge_again(operation, start_ns, noticed_ns if end_ns is None else end_ns)

    def _go_on(self, one: Known, base: Base, lasted: Sequence[Lasted], seen_ns: int) -> None:
        """What is known of a trouble, and what was found of it now."""
        known, start_ns = list(one.lasted), one.start_ns
        for sign, stretch in lasted:
            if one.split_from is not None:  # what was before is the trouble's that it was split off from
                stretch = replace(stretch, from_ns=max(stretch.from_ns, one.start_ns))
                if stretch.to_ns is not None and stretch.to_ns <= stretch.from_ns:
                    continue
            place = next((n for n, item in enumerate(known) if item[0] == sign and near(item[1], stretch)), None)
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
        shown, shows = {sign.kind for sign, _ in one.lasted}, {sign.kind for sign, _ in known}
        only_calls = OF_CALLS.issuperset(shown) and not OF_CALLS.issuperset(shows)
        self._run(
            "UPDATE trouble SET start_ns = $start_ns, end_ns = $end_ns, seen_ns = $seen_ns,"
            f" slow_ns = coalesce($slow_ns, slow_ns), {SET_COLUMNS} WHERE trouble = $key",
            key=one.key,
            slow_ns=base.slow_from_ns(shows) if only_calls else None,  # now its requests show something themselves
            start_ns=start_ns,
            end_ns=end_ns if end_ns is None else max(end_ns, start_ns + 1),
            seen_ns=seen_ns,
            **columns(known, {sign: base.least(sign) for sign, _ in known} | dict(one.least_ns)),
        )
        self._changed(one.incident)
        if start_ns < one.start_ns:
            self._judge_again(one.operation, start_ns, one.start_ns)

    def _without_twins(self, known: Sequence[Known]) -> list[Known]:
        """Troubles of one operation in order of start; those that were found twice, from either end, made one."""
        kept = [known[0]]
        for one in known[1:]:
            last = kept[-1]
            split = one.split_from is not None and one.split_from == last.incident
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
            )
            self._run("DELETE FROM trouble WHERE trouble = $key", key=one.key)
            self._run(
                f"UPDATE trouble SET incident = $incident, end_ns = $end_ns, {SET_COLUMNS} WHERE trouble = $key",
                key=last.key,
                incident=kept[-1].incident,
                end_ns=kept[-1].end_ns,
                **columns(lasted, least_ns),
            )
            if last.incident is not None and one.incident not in (None, last.incident):
                self._run(
                    "UPDATE trouble SET incident = $incident WHERE incident = $other",
                    incident=last.incident,
                    other=one.incident,
                )
                self._gathering.merge(last.incident, [one.incident])
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
            " AND start_ns >= $from_ns AND start_ns < $to_ns AND (weight > 0 OR $live) ORDER BY start_ns LIMIT $most",
            {"service": operation[0], "operation": operation[1], "from_ns": from_ns, "to_ns": to_ns, "most": REWORK}
            | {"live": not self._is_recording},  # of a recording those that were not drawn are done with
        ).fetchall()
        if rows:
            self._rework({trace_id: Extent(start_ns, start_ns) for trace_id, start_ns in rows})

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

    def _end(self, one: Known, end_ns: int, *, lasting: bool) -> None:
        lasted = [
            (sign, replace(stretch, to_ns=max(end_ns, stretch.from_ns + 1)) if stretch.to_ns is None else stretch)
            for sign, stretch in one.lasted
        ]
        self._run(
            f"UPDATE trouble SET end_ns = $end_ns, lasting = $lasting, stretches = $stretches::{STRETCHES}"
            " WHERE trouble = $key",
            key=one.key,
            end_ns=end_ns,
            lasting=lasting,
            stretches=columns(lasted, {})["stretches"],
        )
        self._run("UPDATE incident SET told_ns = NULL WHERE incident = $it", it=one.incident)

    # ---- what is said of incidents

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
                description = describe(self._cursor, incident, self._names, self._settle_ns, settled=settled)
            except duckdb.InterruptException:  # the server ends: a start describes it
                raise
            except duckdb.Error:
                _log.exception("incident %s could not be described; it will be tried again", incident)
                continue
            self._run(
                "UPDATE incident SET document = $document, told_ns = $now_ns, settled = $settled"
                " WHERE incident = $incident",
                document=json.dumps(plain(description), ensure_ascii=False),
                now_ns=now_ns,
                settled=settled,
                incident=incident,
            )

    # ---- the tables

    def _known(self, where: str, **values: Any) -> list[Known]:
        return read_troubles(self._cursor, where, values)

    def _changed(self, incident: str | None) -> None:
        self._run("UPDATE incident SET settled = false, told_ns = NULL WHERE incident = $it", it=incident)

    def _one(self, sql: str, **values: Any) -> Any:
        rows = self._cursor.execute(sql, values).fetchall()
        return rows[0][0] if rows else None

    def _run(self, sql: str, **values: Any) -> None:
        self._cursor.execute(sql, values).fetchall()
