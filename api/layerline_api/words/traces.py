"""A trace told in words: its spans as a tree, with what failed in them and what they carry, and its logs.

Made from the API's JSON. Names are clean (``clean``); stack traces keep their lines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerline_api.words.amounts import human
from layerline_api.words.clean import clean
from layerline_api.words.times import ns_of

Json = Mapping[str, Any]

#: Spans shown, at most, and how deep they are set in.
MOST, DEEPEST = 500, 24
_LEVELS = ((21, "FATAL"), (17, "ERROR"), (13, "WARN"), (9, "INFO"), (5, "DEBUG"), (1, "TRACE"))


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and its value; the value of a stack trace has lines."""

    name: str
    value: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened within a span, and how long after its start."""

    when: str
    name: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """A log record: when (UTC), how bad, whose, what."""

    when: str
    level: str
    is_error: bool
    service: str
    body: str
    tied_by: str  # "" for the trace itself
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A span and what it carries."""

    depth: int
    service: str
    name: str
    kind: str
    took: str
    after: str  # how long after the first span it began
    failed: bool
    error: str  # type and message, else the status message; also of an exception that was handled
    facts: tuple[Fact, ...]
    events: tuple[Event, ...]
    links: tuple[str, ...]  # trace ids
    left_out: str


@dataclass(frozen=True, slots=True)
class TraceStory:
    """A trace in words."""

    trace_id: str
    spans: tuple[Span, ...]
    more_spans: int
    logs: tuple[Log, ...]
    more_logs: int


def tell(trace: Json) -> TraceStory:
    """The story of a trace. KeyError or TypeError where it is none."""
    spans = trace["spans"]
    begin_ns = min((ns_of(span["start"]) for span in spans), default=0)
    ordered = _tree(spans)
    return TraceStory(
        trace_id=clean(trace["trace_id"]),
        spans=tuple(tell_span(spans[place], depth, begin_ns) for place, depth in ordered[:MOST]),
        more_spans=max(0, len(ordered) - MOST),
        logs=tuple(tell_log(log) for log in trace.get("logs") or ()),
        more_logs=int(trace.get("logs_left_out") or 0),
    )


def _tree(spans: Sequence[Json]) -> list[tuple[int, int]]:
    """Places of the spans, each after its parent, and their depths. Rings and orphans do no harm.

    Caller and callee may share one id: the second of them is a child of the first.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for place, span in enumerate(spans):
        first.setdefault(span["span_id"], place)
        last[span["span_id"]] = place
    children: dict[int | None, list[int]] = defaultdict(list)
    for place, span in enumerate(spans):
        half = first[span["span_id"]]
        parent = half if half != place else last.get(span["parent_span_id"] or "")
        children[None if parent == place else parent].append(place)
    out: list[tuple[int, int]] = []
    seen: set[int] = set()
    roots = [*children[None], *range(len(spans))]  # the latter for those in a ring
    for root in roots:
        waiting = [(root, 0)]
        while waiting:
            place, depth = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            out.append((place, min(depth, DEEPEST)))
            below = sorted(children[place], key=lambda one: (spans[one]["start"], one), reverse=True)
            waiting += [(one, depth + 1) for one in below]
    return out


def tell_span(span: Json, depth: int, begin_ns: int) -> Span:
    """One span in words; ``begin_ns`` is when the first began."""
    start_ns = ns_of(span["start"])
    return Span(
        depth=depth,
        service=clean(span["service"]),
        name=clean(span["name"]),
        kind=clean(span["kind"]),
        took=human(span["duration_ns"]),
        after=human(max(0, start_ns - begin_ns)),
        failed=span["status"] == "error",
        error=_error(span),
        facts=_facts(span.get("attributes") or {}),
        events=tuple(
            Event(
                human(max(0, ns_of(event["time"]) - start_ns)), clean(event["name"]), _facts(event["attributes"] or {})
            )
            for event in span.get("events") or ()
        ),
        links=tuple(clean(link["trace_id"]) for link in span.get("links") or ()),
        left_out=_left_out(span.get("left_out") or {}),
    )


def _error(span: Json) -> str:
    exception = span.get("exception") or {}
    said = ": ".join(clean(word) for word in (exception.get("type"), exception.get("message")) if word)
    return said or clean(span.get("status_message") or "")


def _facts(attributes: Mapping[str, Any]) -> tuple[Fact, ...]:
    return tuple(
        Fact(clean(name), "", tuple(clean_line(line) for line in str(value).splitlines()))
        if "\n" in str(value)
        else Fact(clean(name), clean(value))
        for name, value in sorted(attributes.items())
    )


def clean_line(line: str) -> str:
    """A line of a stack trace: clean, its indentation kept."""
    indent = len(line) - len(line.lstrip(" \t"))
    return " " * min(indent, 40) + clean(line)


def _left_out(counts: Mapping[str, int]) -> str:
    """``not kept: 3 attributes, 1 event; values that were shortened: 2``."""
    gone = [
        f"{counts[key]:,} {key if counts[key] != 1 else key[:-1]}"
        for key in ("attributes", "events", "links")
        if counts.get(key)
    ]
    said = [f"not kept: {', '.join(gone)}"] if gone else []
    said += [f"values that were shortened: {counts['shortened']:,}"] if counts.get("shortened") else []
    return "; ".join(said)


def tell_log(log: Json) -> Log:
    """One log record in words."""
    severity = int(log["severity"])
    level = next((word for least, word in _LEVELS if severity >= least), "")
    return Log(
        when=clean(log["time"])[11:23],
        level=level or clean(log["severity_text"]) or "-",
        is_error=severity >= 17,
        service=clean(log["service"]),
        body=clean(log["body"]) or clean((log["attributes"] or {}).get("exception.message", "")),
        tied_by="" if log["tied_by"] == "trace" else f"of the same {clean(log['tied_by'])}, at that time",
        facts=_facts(log["attributes"] or {}),
    )
