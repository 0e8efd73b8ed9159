"""What a question's query string says, as a ``RequestQuery``. Whatever it does not say plainly is a 400."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from werkzeug.datastructures import MultiDict

from layerline_api.problems import Problem
from layerline_correlator.query import RequestQuery
from layerline_correlator.settings import duration_ns
from layerline_correlator.tagquery.model import BadQuery, Selection
from layerline_correlator.tagquery.parse import parse_selection

WINDOW = ("since", "from", "to")
FILTERS = ("service", "operation", "tag", "min_duration", "order", "limit", "cursor")
ORDERS = ("excess", "duration", "start")
RANKS = ("excess", "lost")
DEFAULT_SINCE = "15m"
LIMIT, MOST = 50, 1000
LAST_NS = 2**63 - 1

Arguments = MultiDict[str, str]

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_HEX = {"trace_id": re.compile(r"[0-9a-f]{32}"), "span_id": re.compile(r"[0-9a-f]{16}")}


def check(arguments: Arguments, known: Collection[str]) -> None:
    """Unknown parameters, and parameters given twice that may be given once, are a 400."""
    for name, values in arguments.lists():
        if name not in known:
            may_be = ", ".join(known) or "none"
            raise Problem(400, f"there is no parameter {name[:80]!r} here; there are: {may_be}", name[:80])
        if len(values) > 1 and name != "tag":
            raise Problem(400, f"{name} is given {len(values)} times; expected once", name)


def identifier(name: str, text: str) -> str:
    """A ``trace_id`` or ``span_id`` as asked for. 400 unless it is lower-case hex of the right length."""
    if not _HEX[name].fullmatch(text):
        digits = 32 if name == "trace_id" else 16
        raise Problem(400, f"{name} is {text[:80]!r}; expected {digits} lower-case hex digits", name)
    return text


def request_query(arguments: Arguments, now_ns: Callable[[], int] = time.time_ns) -> RequestQuery:
    """The window (the last 15 minutes unless said otherwise) and the filters. ``Problem`` 400 names the field."""
    from_ns, to_ns = _window(arguments, now_ns)
    min_duration = arguments.get("min_duration")
    return RequestQuery(
        from_ns=from_ns,
        to_ns=to_ns,
        service=_given(arguments, "service"),
        operation=_given(arguments, "operation"),
        tags=tuple(_tag(text) for text in arguments.getlist("tag")),
        min_duration_ns=None if min_duration is None else _duration("min_duration", min_duration),
        order=_one_of(arguments, "order", ORDERS),
        limit=limit_of(arguments.get("limit")),
        cursor=_given(arguments, "cursor"),
        absolute=_one_of(arguments, "rank", RANKS) == "lost",
    )


def _window(arguments: Arguments, now_ns: Callable[[], int]) -> tuple[int, int]:
    since, begin, end = (arguments.get(name) for name in WINDOW)
    if since is not None and (begin is not None or end is not None):
        raise Problem(400, "since is given beside from or to; expected one or the other", "since")
    to_ns = now_ns() + 1 if end is None else instant_ns("to", end)
    from_ns = max(0, to_ns - _duration("since", since or DEFAULT_SINCE)) if begin is None else instant_ns("from", begin)
    if from_ns >= to_ns:
        raise Problem(400, "the window is empty: from is not before to", "to" if begin is None else "from")
    return from_ns, to_ns


def instant_ns(name: str, text: str) -> int:
    """RFC 3339 with a zone, in nanoseconds since 1970, UTC; the nine digits are kept."""
    match = _RFC3339.fullmatch(text)
    if match is not None:
        day, clock, fraction, zone = match.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
            seconds = round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
        except (ValueError, OverflowError):
            seconds = -1
        instant_ns = seconds * 10**9 + int((fraction or "").ljust(9, "0"))
        if 0 <= instant_ns <= LAST_NS:
            return instant_ns
    raise Problem(
        400,
        f"{name} is {text[:80]!r}; expected a time with its zone such as 2026-11-23T10:00:00Z"
        + (" (a + in a query string is written %2B)" if " " in text else ""),
        name,
    )


def _duration(name: str, text: str) -> int:
    try:
        found = duration_ns(text[:40])
    except (ValueError, OverflowError):
        found = -1
    if not 0 <= found <= LAST_NS:
        raise Problem(400, f"{name} is {text[:80]!r}; expected a duration such as 400ms, 15m or 1h", name)
    return found


def _tag(text: str) -> Selection:
    try:
        return parse_selection(text)
    except BadQuery as problem:
        raise Problem(
            400,
            f"tag is {text[:80]!r}; expected key:value: {problem.detail} (column {problem.column})",
            "tag",
            problem.column,
        ) from None


def _given(arguments: Arguments, name: str) -> str | None:
    text = arguments.get(name)
    if text == "":
        raise Problem(400, f"{name} is empty", name)
    return text


def _one_of(arguments: Arguments, name: str, choices: tuple[str, ...]) -> str:
    text = arguments.get(name, choices[0])
    if text not in choices:
        raise Problem(400, f"{name} is {text[:80]!r}; expected one of {', '.join(choices)}", name)
    return text


def limit_of(text: str | None) -> int:
    if text is None:
        return LIMIT
    if re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= MOST:
        return int(text)
    raise Problem(400, f"limit is {text[:80]!r}; expected 1 to {MOST}", "limit")
