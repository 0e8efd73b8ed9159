"""Service level objectives, and how fast their error budgets burn.

Multi-window, multi-burn-rate alerts as in the SRE workbook (https://sre.google/workbook/alerting-on-slos/): a budget
burns when it is spent so many times as fast as it may be, over a long window and over a short one, which says that it
still is. The longest window is as long as requests are kept by default.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from layerline_correlator.incidents.detect import Seen
from layerline_correlator.model import resource_key
from layerline_correlator.settings import duration_ns
from layerline_correlator.store import text

#: Long window, short window (both in seconds), and how many times as fast as allowed.
RULES = ((3600, 300, 14.4), (21_600, 1_800, 6.0), (259_200, 21_600, 1.0))
#: Requests that broke it in the long window, at least: one of three is no burn.
LEAST_BAD = 10


class BadSlo(ValueError):
    """Not an SLO: ``field`` names what is wrong with it."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Slo:
    """So large a share of the requests succeeds, and within ``threshold_ns`` where there is one."""

    service: str
    operation: str | None
    objective: float
    threshold_ns: int | None

    @property
    def id(self) -> str:
        """12 hex digits. What is promised of the same requests in the same time is the same SLO."""
        key = {"slo": self.service, "operation": self.operation or "", "threshold_ns": str(self.threshold_ns)}
        return resource_key(key)[:12]


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests of a window, and those that broke the SLO."""

    requests: int
    bad: int


@dataclass(frozen=True, slots=True)
class Burn:
    """One rule, as it stands. A rate of 1 spends the budget exactly; null where there were no requests."""

    long_s: int
    short_s: int
    factor: float
    long_rate: float | None
    short_rate: float | None
    burning: bool


@dataclass(frozen=True, slots=True)
class SloState:
    """An SLO and its budget over the last three days, as JSON has it."""

    id: str
    service: str
    operation: str | None
    objective: float
    threshold_ns: int | None
    requests: int
    bad: int
    budget_left_ratio: float | None
    burning: bool
    burns: list[Burn]


def burns(objective: float, counted: Mapping[int, Counted]) -> list[Burn]:
    """Every rule, given the counts by the length of their window in seconds."""
    found = []
    for long_s, short_s, factor in RULES:
        long_rate, short_rate = _rate(counted.get(long_s), objective), _rate(counted.get(short_s), objective)
        burning = (
            long_rate is not None
            and short_rate is not None
            and min(long_rate, short_rate) >= factor
            and counted[long_s].bad >= LEAST_BAD
        )
        found.append(Burn(long_s, short_s, factor, long_rate, short_rate, burning))
    return found


def _rate(counted: Counted | None, objective: float) -> float | None:
    if counted is None or not counted.requests:
        return None
    return round(counted.bad / counted.requests / (1 - objective), 4)


def parse(given: Mapping[str, Any]) -> Slo:
    """``{"service", "operation", "objective", "threshold"}``; ``BadSlo`` names the field."""
    for name in given:
        if name not in ("service", "operation", "objective", "threshold"):
            raise BadSlo(
                f"an SLO has no {str(name)[:80]!r}; it has service, operation, objective, threshold", str(name)[:80]
            )
    service, operation, objective = given.get("service"), given.get("operation"), given.get("objective")
    if not isinstance(service, str) or not 0 < len(service) <= 500:
        raise BadSlo(f"service is {str(service)[:80]!r}; expected the name of a service", "service")
    if operation is not None and (not isinstance(operation, str) or not 0 < len(operation) <= 500):
        raise BadSlo(f"operation is {str(operation)[:80]!r}; expected its name, or none for all", "operation")
    if isinstance(objective, bool) or not isinstance(objective, int | float) or not 0 < objective < 1:
        raise BadSlo(f"objective is {str(objective)[:80]!r}; expected a share such as 0.99", "objective")
    threshold_ns = None
    if (threshold := given.get("threshold")) is not None:
        try:
            threshold_ns = duration_ns(threshold[:40])
        except (ValueError, TypeError, OverflowError):
            threshold_ns = -1
        if not 0 < threshold_ns < 2**62:
            raise BadSlo(f"threshold is {str(threshold)[:80]!r}; expected a duration such as 300ms", "threshold")
    return Slo(service, operation, float(objective), threshold_ns)


def read_file(path: Path) -> list[Slo]:
    """The SLOs of a TOML file, one ``[[slo]]`` each. ValueError says what is wrong, OSError that it cannot be read."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("slo", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"{path} is not TOML: {problem}") from None
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path}: expected one [[slo]] for each")
    try:
        return [parse(table) for table in tables]
    except BadSlo as problem:
        raise ValueError(f"{path}: {problem}") from None


def keep(cursor: duckdb.DuckDBPyConnection, slo: Slo) -> None:
    """Write an SLO down; one of the same requests and threshold gets the new objective."""
    cursor.execute("DELETE FROM slo WHERE slo = $slo", {"slo": slo.id}).fetchall()
    cursor.execute(
        "INSERT INTO slo BY NAME SELECT $slo AS slo, $service AS service, $operation AS operation,"
        " $objective AS objective, $threshold_ns::BIGINT AS threshold_ns",
        {
            "slo": slo.id,
            "service": slo.service,
            "operation": slo.operation,
            "objective": slo.objective,
            "threshold_ns": slo.threshold_ns,
        },
    ).fetchall()


def remove(cursor: duckdb.DuckDBPyConnection, slo: str) -> bool:
    """Forget an SLO; False when there was none with this id."""
    return bool(cursor.execute("DELETE FROM slo WHERE slo = $slo RETURNING slo", {"slo": slo}).fetchall())


def states(cursor: duckdb.DuckDBPyConnection, now_ns: int) -> list[SloState]:
    """Every SLO as it stands."""
    counted: dict[str, dict[int, Counted]] = defaultdict(dict)
    for slo, window_s, requests, bad in cursor.execute(text("incidents/slo_counts.sql"), {"now_ns": now_ns}).fetchall():
        counted[slo][window_s] = Counted(requests, bad)
    found = []
    for slo, service, operation, objective, threshold_ns in cursor.execute(
        "SELECT slo, service, operation, objective, threshold_ns FROM slo ORDER BY service, operation, threshold_ns"
    ).fetchall():
        rules = burns(objective, counted[slo])
        whole = counted[slo].get(RULES[-1][0], Counted(0, 0))
        spent = _rate(whole, objective)
        found.append(
            SloState(
                id=slo,
                service=service,
                operation=operation,
                objective=objective,
                threshold_ns=threshold_ns,
                requests=whole.requests,
                bad=whole.bad,
                budget_left_ratio=None if spent is None else round(1 - spent, 4),
                burning=any(rule.burning for rule in rules),
                burns=rules,
            )
        )
    return found


def watch(cursor: duckdb.DuckDBPyConnection, now_ns: int) -> None:
    """Begin trouble where a budget burns and nobody knows why yet, and end it where none burns any more.

    What was found by itself already (an open trouble, or one inside the burn's long window) explains the burn.
    """
    burning = {state.id: state for state in states(cursor, now_ns) if state.burning}
    for key, slo, start_ns, service, operation in cursor.execute(
        "SELECT trouble, slo, start_ns, service, operation FROM trouble WHERE slo IS NOT NULL AND end_ns IS NULL"
    ).fetchall():
        if slo not in burning:
            cursor.execute(
                "UPDATE trouble SET end_ns = (SELECT coalesce(max(end_ns), $start_ns + 1) FROM request"
                " WHERE request.service = $service AND request.operation = $operation AND request.start_ns >= $start_ns"
                " AND (status = 2 OR end_ns - request.start_ns >= trouble.slow_ns)) WHERE trouble = $key",
                {"key": key, "service": service, "operation": operation, "start_ns": start_ns},
            ).fetchall()
            cursor.execute(
                "UPDATE incident SET told_ns = NULL, settled = false WHERE incident IN"
                " (SELECT incident FROM trouble WHERE trouble = $key)",
                {"key": key},
            ).fetchall()
    for state in burning.values():
        _begin(cursor, state, now_ns)


def _begin(cursor: duckdb.DuckDBPyConnection, state: SloState, now_ns: int) -> None:
    rule = next(rule for rule in state.burns if rule.burning)
    since_ns = now_ns - rule.long_s * 10**9
    known = cursor.execute(
        "SELECT 1 FROM trouble WHERE service = $service AND ($operation IS NULL OR operation = $operation)"
        " AND coalesce(end_ns, $since_ns) >= $since_ns LIMIT 1",
        {"service": state.service, "operation": state.operation, "since_ns": since_ns},
    ).fetchone()
    if known:
        return
    rows = cursor.execute(
        text("incidents/slo_seen.sql"),
        {
            "service": state.service,
            "operation": state.operation,
            "threshold_ns": state.threshold_ns,
            "from_ns": since_ns,
            "to_ns": now_ns,
        },
    ).fetchall()
    worst = Counter(operation for *_, operation, hit in rows if hit).most_common(1)
    if not worst:
        return
    seen = [Seen(start_ns, end_ns, hit) for start_ns, end_ns, operation, hit in rows if operation == worst[0][0]]
    start_ns = begun_ns(seen, 1 - state.objective) or since_ns
    middle = sorted(one.end_ns - one.start_ns for one in seen)[len(seen) // 2]
    key = resource_key({"slo": state.id, "start_ns": str(start_ns)})[:12]
    cursor.execute(
        "INSERT INTO trouble BY NAME SELECT $key AS trouble, NULL AS incident, $service AS service,"
        " $operation AS operation, $start_ns AS start_ns, NULL AS end_ns, $now_ns AS noticed_ns, $now_ns AS seen_ns,"
        " $base_ns AS base_ns, $slow_ns AS slow_ns, ['slo'] AS signs, [] AS causes, true AS lasting, $slo AS slo",
        {
            "key": key,
            "service": state.service,
            "operation": worst[0][0],
            "start_ns": start_ns,
            "now_ns": now_ns,
            "base_ns": middle,
            "slow_ns": 2**62 if state.threshold_ns is None else state.threshold_ns,
            "slo": state.id,
        },
    ).fetchall()


def begun_ns(requests: Sequence[Seen], allowed: float) -> int | None:
    """Since when more than ``allowed`` of the requests, given in order of start, broke an SLO: the first that did.

    The last moment before the evidence for what was seen, against what is allowed, began to grow.
    """
    seen = sum(one.hit for one in requests) / max(1, len(requests))
    if not allowed < seen < 1:
        return next((one.start_ns for one in requests if one.hit), None)
    bad, good = math.log(seen / allowed), math.log((1 - seen) / (1 - allowed))
    spent, least, after = 0.0, 0.0, 0
    for place, one in enumerate(requests):
        spent += bad if one.hit else good
        if spent < least:
            least, after = spent, place + 1
    return next((one.start_ns for one in requests[after:] if one.hit), None)
