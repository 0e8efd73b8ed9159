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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import duckdb
from pydantic import Field, PlainValidator, TypeAdapter, ValidationError, WithJsonSchema

from layerline_correlator.incidents.detect import Seen
from layerline_correlator.settings import DURATION_PATTERN, duration_ns
from layerline_correlator.store.model import resource_key
from layerline_correlator.store.statements import first_row, text
from layerline_correlator.written import Written, refusal

#: Long window, short window (both in seconds), and how many times as fast as allowed.
RULES = ((3600, 300, 14.4), (21_600, 1_800, 6.0), (259_200, 21_600, 1.0))
#: Requests that broke it in the long window, at least: one of three is no burn.
LEAST_BAD = 10


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


def _threshold(text: Any) -> str:
    try:
        if len(text) <= 40 and 0 < duration_ns(text) < 2**62:
            return str(text)
    except (ValueError, TypeError, AttributeError, OverflowError):
        pass
    raise ValueError("expected a duration such as 300ms")


Name = Annotated[str, Field(min_length=1, max_length=500)]


class Promise(Written):
    """A service level objective, as it is written down."""

    service: Annotated[Name, Field(description="service.name")]
    operation: Annotated[Name | None, Field(description="the entry span's name; without it all of the service")] = None
    objective: Annotated[float, Field(gt=0, lt=1, description="which share of the requests succeeds, such as 0.99")]
    threshold: Annotated[
        Annotated[
            str,
            PlainValidator(_threshold),
            WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["300ms"]}),
        ]
        | None,
        Field(description="within which time they succeed; without it only failures count"),
    ] = None

    def slo(self) -> Slo:
        """What is counted."""
        threshold_ns = None if self.threshold is None else duration_ns(self.threshold)
        return Slo(self.service, self.operation, self.objective, threshold_ns)

    def __str__(self) -> str:
        """``99 % of web GET /cart succeed within 300ms``."""
        whose = self.service if self.operation is None else f"{self.service} {self.operation}"
        within = "" if self.threshold is None else f" within {self.threshold}"
        return f"{self.objective * 100:.10g} % of {whose} succeed{within}"


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


def read_file(path: Path) -> list[Slo]:
    """The SLOs of a TOML file, one ``[[slo]]`` each. ValueError says what is wrong, OSError that it cannot be read."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("slo", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"{path} is not TOML: {problem}") from None
    try:
        return [promise.slo() for promise in TypeAdapter(list[Promise]).validate_python(tables)]
    except ValidationError as wrong:
        raise ValueError(f"{path}: {refusal(wrong, 'slo').detail} (one [[slo]] for each)") from None


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
    rows = cursor.execute(
        "SELECT service, operation, objective, threshold_ns FROM slo ORDER BY service, operation, threshold_ns"
    ).fetchall()
    return [_state(slo, counted[slo.id]) for slo in (Slo(*row) for row in rows)]


def states_of_each(cursor: duckdb.DuckDBPyConnection, slo: Slo, now_ns: int) -> list[SloState]:
    """An SLO that need not be kept, as it stood at ``now_ns``; ``*`` for a service or operation stands for each that
    had requests, with a budget of its own."""
    counted: dict[tuple[str, str | None], dict[int, Counted]] = defaultdict(dict)
    values = {
        "service": slo.service,
        "operation": slo.operation,
        "threshold_ns": slo.threshold_ns,
        "now_ns": now_ns,
    }
    for service, operation, window_s, requests, bad in cursor.execute(
        text("incidents/slo_each.sql"), values
    ).fetchall():
        counted[service, operation][window_s] = Counted(requests, bad)
    return [
        _state(replace(slo, service=service, operation=operation), windows)
        for (service, operation), windows in counted.items()
    ]


def _state(slo: Slo, counted: Mapping[int, Counted]) -> SloState:
    rules = burns(slo.objective, counted)
    whole = counted.get(RULES[-1][0], Counted(0, 0))
    spent = _rate(whole, slo.objective)
    return SloState(
        id=slo.id,
        service=slo.service,
        operation=slo.operation,
        objective=slo.objective,
        threshold_ns=slo.threshold_ns,
        requests=whole.requests,
        bad=whole.bad,
        budget_left_ratio=None if spent is None else round(1 - spent, 4),
        burning=any(rule.burning for rule in rules),
        burns=rules,
    )


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
    known = first_row(
        cursor.execute(
            "SELECT 1 FROM trouble WHERE service = $service AND ($operation IS NULL OR operation = $operation)"
            " AND coalesce(end_ns, $since_ns) >= $since_ns LIMIT 1",
            {"service": state.service, "operation": state.operation, "since_ns": since_ns},
        )
    )
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
