"""Keeps monitors, alerts and notices in the store, and carries out what ``judge`` decides. Time is passed in."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from math import inf
from typing import Any

import duckdb

from layerline_correlator.entity import Entity
from layerline_correlator.monitors.judge import judge, to_tell
from layerline_correlator.monitors.model import Alert, CannotEvaluate, Evaluation, Monitor, Notice, Source, Target
from layerline_correlator.monitors.preview import Preview, preview
from layerline_correlator.store.statements import run

#: A notice that was not heard is tried again after 15 s, 30 s, … at most 10 min, and given up after a day.
_FIRST_NS, _MOST_NS, _GIVEN_UP_NS = 15 * 10**9, 600 * 10**9, 24 * 3600 * 10**9
#: Alerts that were resolved and notices are remembered for this long.
_REMEMBERED_NS = 90 * 24 * 3600 * 10**9


class Monitors:
    """The monitors of one store. One process has the store, and this lock makes it one evaluation at a time."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, sources: Mapping[str, Source]) -> None:
        """Take ownership of ``cursor``. ``sources`` by name: whose questions can be asked."""
        self._cursor = cursor
        self._sources = sources
        self._lock = threading.RLock()  # of the cursor
        self._evaluating = threading.Lock()
        # Asked once a second each, so they are remembered; both None or below until they are asked for (again).
        self._known: list[Monitor] | None = None
        self._next_notice_ns: float = -inf  # no notice is due before
        run(cursor, "monitors/schema.sql")

    # ---- monitors

    def all(self) -> list[Monitor]:
        """Every monitor, the oldest first."""
        return self._monitors("true")

    def get(self, monitor: str) -> Monitor | None:
        """The monitor of that id."""
        return next(iter(self._monitors("monitor = $monitor", {"monitor": monitor})), None)

    def save(self, monitor: Monitor) -> None:
        """Keep it, in place of one with its id."""
        with self._transaction():
            self._put(monitor)

    def delete(self, monitor: Monitor, at_ns: int) -> None:
        """Forget it. What fires is over then, and told so."""
        with self._evaluating, self._transaction():
            over = Evaluation()
            self._follow(monitor, judge(monitor, self.open_alerts(monitor.id), over, at_ns), at_ns)
            self._do("DELETE FROM monitor WHERE monitor = $monitor", {"monitor": monitor.id})
            self._known = None

    def silence(self, monitor: Monitor, until_ns: int) -> Monitor:
        """Tell nothing of it until then; 0 ends the silence."""
        with self._evaluating:
            silent = replace(self.get(monitor.id) or monitor, silent_until_ns=until_ns)
            self.save(silent)
        return silent

    def preview(self, monitor: Monitor, from_ns: int, to_ns: int, enough: Callable[[], bool]) -> Preview:
        """What it would have done. ``CannotEvaluate``, also where ``enough`` says that it is."""
        return preview(self._sources[monitor.source], monitor, from_ns, to_ns, enough)

    # ---- alerts

    def open_alerts(self, monitor: str | None = None) -> list[Alert]:
        """Those that are pending or firing."""
        return self._alerts("state <> 'resolved'", monitor, 1_000_000)

    def history(self, monitor: str, limit: int) -> list[Alert]:
        """Those that fired, the newest first."""
        return self._alerts("state <> 'pending'", monitor, limit)

    def evaluate_due(self, at_ns: int) -> int:
        """Evaluate the monitors whose time has come; how many. A clock that was set back is no reason to wait."""
        with self._lock:
            known = self._known = self.all() if self._known is None else self._known
        due = [one for one in known if not 0 <= at_ns - one.evaluated_ns < one.every_ns]
        for monitor in due:
            self.evaluate(monitor.id, at_ns)
        return len(due)

    def evaluate(self, monitor_id: str, at_ns: int) -> None:
        """Ask the monitor's question as of ``at_ns``, and keep what follows. A question that fails changes no alert."""
        with self._evaluating:
            monitor = self.get(monitor_id)
            if monitor is None:
                return
            problem = None
            found = Evaluation(blind=True)
            try:
                found = self._sources[monitor.source](monitor.question, at_ns)
            except CannotEvaluate as reason:
                problem = str(reason)
            except KeyError:
                problem = f"nobody answers questions of the kind {monitor.source!r}"
            with self._transaction():
                self._put(replace(monitor, evaluated_ns=at_ns, problem=problem))
                # Of those resolved, the ones that are still to be told: they were resolved in silence.
                untold = self._alerts("state = 'resolved' AND told = 'firing'", monitor.id, 1_000)
                self._follow(monitor, judge(monitor, self.open_alerts(monitor.id), found, at_ns) + untold, at_ns)
                self._forget(at_ns - _REMEMBERED_NS)

    def _forget(self, before_ns: int) -> None:
        for over in ("alert WHERE state = 'resolved' AND resolved_ns", "notice WHERE next_ns IS NULL AND created_ns"):
            self._do(f"DELETE FROM {over} < $before_ns", {"before_ns": before_ns})

    def _follow(self, monitor: Monitor, alerts: Iterable[Alert], at_ns: int) -> None:
        """Keep these in place of the monitor's open ones, and note what is to be told of them."""
        kept = []
        for alert in alerts:
            targets = to_tell(alert, monitor, at_ns)
            if targets:
                alert = replace(alert, told=alert.state, told_ns=at_ns)
            for number, target in enumerate(targets):
                notice = Notice(f"{alert.id}-{alert.state}-{at_ns}-{number}", monitor, alert, target, at_ns)
                self._insert(
                    "notice",
                    notice=notice.id,
                    alert=alert.id,
                    url=target.url,
                    told=json.dumps({"monitor": asdict(monitor), "alert": asdict(alert), "target": asdict(target)}),
                    created_ns=at_ns,
                    tries=0,
                    next_ns=at_ns,
                )
                self._next_notice_ns = -inf
            kept.append(alert)
        self._do(
            "DELETE FROM alert WHERE monitor = $monitor AND (state <> 'resolved' OR alert IN (SELECT unnest($alerts)))",
            {"monitor": monitor.id, "alerts": [alert.id for alert in kept]},
        )
        for alert in kept:
            entity = alert.entity
            self._insert(
                "alert",
                alert=alert.id,
                monitor=monitor.id,
                entity_type=entity.type,
                entity_id=entity.id,
                entity_name=entity.name,
                state=alert.state,
                since_ns=alert.since_ns,
                held_ns=alert.held_ns,
                fired_ns=alert.fired_ns,
                resolved_ns=alert.resolved_ns,
                figures=json.dumps(alert.figures),
                told=alert.told,
                told_ns=alert.told_ns,
            )

    # ---- notices

    def due_notices(self, at_ns: int, busy: Sequence[str] = (), limit: int = 100, for_each: int = 20) -> list[Notice]:
        """What is to be told now: of one alert and address the oldest that was not heard, so that the order is kept.

        Nothing for the addresses in ``busy``, and not more than ``for_each`` for one: many notices for an address that
        does not answer must not keep those for others out of the list.
        """
        with self._lock:
            if at_ns < self._next_notice_ns:
                return []
            ((next_ns,),) = self._do("SELECT min(next_ns) FROM notice")
            self._next_notice_ns = inf if next_ns is None else next_ns
        rows = self._do(
            "WITH due AS ("
            "SELECT notice, url, told, created_ns, tries FROM notice WHERE next_ns IS NOT NULL"
            " QUALIFY row_number() OVER (PARTITION BY alert, url ORDER BY created_ns) = 1 AND next_ns <= $at_ns)"
            " SELECT notice, told, created_ns, tries FROM due WHERE NOT list_contains($busy::VARCHAR[], url)"
            " QUALIFY row_number() OVER (PARTITION BY url ORDER BY created_ns, notice) <= $for_each"
            " ORDER BY created_ns, notice LIMIT $limit",
            {"at_ns": at_ns, "busy": list(busy), "limit": limit, "for_each": for_each},
        )
        return [_notice(*row) for row in rows]

    def heard(self, notice: Notice, at_ns: int) -> None:
        """It was told."""
        self._do(
            "UPDATE notice SET next_ns = NULL, heard_ns = $at_ns, tries = tries + 1, problem = NULL"
            " WHERE notice = $notice",
            {"notice": notice.id, "at_ns": at_ns},
        )

    def not_heard(self, notice: Notice, at_ns: int, problem: str) -> None:
        """It could not be told: it is tried again later, or given up."""
        wait_ns = min(_FIRST_NS * 2 ** min(notice.tries, 10), _MOST_NS)
        given_up = at_ns - notice.created_ns >= _GIVEN_UP_NS
        self._do(
            "UPDATE notice SET next_ns = $next_ns, tries = tries + 1, problem = $problem WHERE notice = $notice",
            {"notice": notice.id, "next_ns": None if given_up else at_ns + wait_ns, "problem": problem},
        )
        self._next_notice_ns = -inf

    def untold(self, monitor: str) -> tuple[int, str | None]:
        """How many notices of the monitor wait to be heard, and the last problem of one."""
        ((count, problem),) = self._do(
            "SELECT count(*), arg_max(problem, created_ns) FROM notice"
            " WHERE next_ns IS NOT NULL AND alert IN (SELECT alert FROM alert WHERE monitor = $monitor)",
            {"monitor": monitor},
        )
        return count, problem

    # ---- rows

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._do("BEGIN")
            try:
                yield
                self._do("COMMIT")
            except BaseException:
                self._do("ROLLBACK")
                raise

    def _do(self, statement: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        with self._lock:
            return self._cursor.execute(statement, dict(values or {})).fetchall()

    def _insert(self, table: str, **values: Any) -> None:
        columns = ", ".join(values)
        self._do(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(f'${name}' for name in values)})", values)

    def _put(self, monitor: Monitor) -> None:
        self._known = None
        self._do("DELETE FROM monitor WHERE monitor = $monitor", {"monitor": monitor.id})
        values = asdict(monitor)
        values["monitor"] = values.pop("id")
        self._insert("monitor", **{**values, "targets": json.dumps(values["targets"])})

    def _monitors(self, where: str, values: Mapping[str, Any] | None = None) -> list[Monitor]:
        return [
            Monitor(**{**row, "targets": tuple(Target(**target) for target in json.loads(row["targets"]))})
            for row in self._rows(
                f"SELECT monitor AS id, * EXCLUDE (monitor) FROM monitor WHERE {where} ORDER BY created_ns, monitor",
                values,
            )
        ]

    def _alerts(self, where: str, monitor: str | None, limit: int) -> list[Alert]:
        return [
            Alert(**{**row, "entity": Entity(**row["entity"]), "figures": json.loads(row["figures"])})
            for row in self._rows(
                "SELECT alert AS id, {'type': entity_type, 'id': entity_id, 'name': entity_name} AS entity,"
                f" * EXCLUDE (alert, entity_type, entity_id, entity_name) FROM alert"
                f" WHERE {where} AND monitor = coalesce($monitor, monitor)"
                " ORDER BY since_ns DESC, alert LIMIT $limit",
                {"monitor": monitor, "limit": limit},
            )
        ]

    def _rows(self, statement: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        with self._lock:
            rows = self._do(statement, values)
            names = [column[0] for column in self._cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in rows]


def _notice(notice: str, told: str, created_ns: int, tries: int) -> Notice:
    said = json.loads(told)
    monitor = {**said["monitor"], "targets": tuple(Target(**target) for target in said["monitor"]["targets"])}
    alert = {**said["alert"], "entity": Entity(**said["alert"]["entity"])}
    return Notice(notice, Monitor(**monitor), Alert(**alert), Target(**said["target"]), created_ns, tries)
