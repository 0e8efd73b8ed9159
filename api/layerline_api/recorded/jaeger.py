"""Jaeger's traces in JSON, as its API and its page give them out: ``{"data": [{"traceID", "spans", "processes"}]}``.

Times are microseconds. Ids are hex digits; old clients have trace ids of 64 bits and leave leading zeros out. A span's
parent is its first CHILD_OF reference into the same trace, else its first FOLLOWS_FROM; references into other traces
are links. A process and its tags are the resource. Tags that OpenTelemetry's SDKs and Collector write there are turned
back: ``span.kind``, ``error``, ``otel.status_code``, ``otel.status_description``, and the figures of Layerline's
wrapper.

A span's logs become its events, by the name in their field ``event``. What OpenTracing's clients call an error there
(``event=error`` with ``error.kind``, ``message``, ``stack``) is an exception. Flags and warnings are not kept. Limits
and masks are those of what is received live.

Source: jaegertracing.io/docs "APIs"; opentelemetry.io/docs/specs/otel/trace/sdk_exporters/jaeger;
opentracing/specification, semantic_conventions.md, "Log fields table".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from layerline.attributes import ACCOUNT, ACCOUNT_REASON, SLICES, SPAN_FIGURES, THREAD_ID
from layerline_api.doors.bounds import FIGURE_LIMIT, figure_limit
from layerline_api.doors.otlp.limits import ATTRIBUTES, EVENTS, LINKS, NEEDED, TOGETHER_CHARS, VALUE_CHARS, Counts, cut
from layerline_api.doors.otlp.masking import BY_DEFAULT, STATEMENTS, Rules, statement
from layerline_api.doors.otlp.traces import EXCEPTION
from layerline_api.recorded.content import content
from layerline_api.recorded.elements import elements
from layerline_api.recorded.gathered import Gathered, Place, shown
from layerline_correlator.store.model import (
    CLIENT,
    CONSUMER,
    INTERNAL,
    NO_DETAILS,
    PRODUCER,
    SERVER,
    STATUS_ERROR,
    STATUS_OK,
    STATUS_UNSET,
    UNSPECIFIED,
    SpanDetails,
    SpanEvent,
    SpanLink,
    SpanRow,
    attribute_text,
)

LAST_US = (2**63 - 1) // 1000
_KIND = {"internal": INTERNAL, "server": SERVER, "client": CLIENT, "producer": PRODUCER, "consumer": CONSUMER}
_STATUS = {"OK": STATUS_OK, "ERROR": STATUS_ERROR, "UNSET": STATUS_UNSET}
_TRUE = (True, "true")
_FIGURE = {name: index for index, name in enumerate(SPAN_FIGURES)}
_NO_FIGURES: tuple[int | None, ...] = (None,) * len(SPAN_FIGURES)
_OURS = frozenset((*SPAN_FIGURES, THREAD_ID, SLICES, ACCOUNT, ACCOUNT_REASON))
_HEX = re.compile(r"[0-9a-fA-F]+")
_LOWER_HEX = re.compile(r"[0-9a-f]+").fullmatch
#: How a trace begins: where reading goes on after a damaged one. A span begins alike, but has no spans.
_TRACE = re.compile(r'\{\s*"traceID"\s*:\s*"[0-9a-fA-F]*"\s*,\s*"(?:spans|processes)"\s*:')
#: OpenTracing's names of what OpenTelemetry says of an exception; where two are there, the first goes before.
_EXCEPTION_NAMES = {
    "error.kind": "exception.type",
    "message": "exception.message",
    "error.object": "exception.message",
    "stack": "exception.stacktrace",
}
#: The values of these are free text, in which a secret may stand.
_TEXTS = frozenset({"exception.message", "exception.stacktrace", "message", "stack", "error.object", "event"})
#: What old clients call a resource's attributes.
_RESOURCE_NAMES = {"hostname": "host.name"}


class _Sender(NamedTuple):
    """Who sent a span: the key of its resource, and the rules by which its attributes are masked."""

    key: str
    rules: Rules


class _Bad(ValueError):
    """Why a trace or span cannot be taken."""


def read(path: Path, begin: Place, gathered: Gathered) -> Iterator[Place]:
    """The spans of the file from ``begin`` on, trace by trace."""
    with content(path, begin.offset) as stream:
        for element in elements(stream, begin, ("data",), _TRACE):
            if element.problem is not None:
                gathered.reject(f"line {element.line}", f"a trace could not be read: {element.problem}")
            else:
                _trace(element.value, element.line, gathered)
            yield element.after


def _trace(trace: Any, line: int, gathered: Gathered) -> None:
    try:
        if not isinstance(trace, dict):
            raise _Bad(f"expected an object with traceID, spans and processes, found {shown(trace)}")
        spans, processes = trace.get("spans"), trace.get("processes") or {}
        if not isinstance(spans, list) or not isinstance(processes, dict):
            raise _Bad("expected a list of spans and an object of processes")
    except _Bad as problem:
        gathered.reject(f"line {line}", f"a trace could not be read: {problem}")
        return
    resources: dict[str, _Sender] = {}
    for number, span in enumerate(spans, 1):
        try:
            row = _span(span, processes, resources, gathered)
        except _Bad as problem:
            name = span.get("spanID") if isinstance(span, dict) else None
            gathered.reject(f"line {line}", f"span {number} ({name or 'no id'}) of its trace: {problem}")
        else:
            gathered.batch.spans.append(row)


def _span(span: Any, processes: dict[str, Any], resources: dict[str, _Sender], gathered: Gathered) -> SpanRow:
    if not isinstance(span, dict):
        raise _Bad(f"expected an object, found {shown(span)}")
    trace_id = _id(span, "traceID", 32)
    start_us, duration_us = _microseconds(span, "startTime"), _microseconds(span, "duration")
    if start_us == 0:
        raise _Bad("its startTime is 0; expected microseconds since 1970")
    if (reason := gathered.bounds.wrong_span(start_us * 1000, (start_us + duration_us) * 1000)) is not None:
        raise _Bad(f"{reason} (found startTime {start_us} and duration {duration_us})")
    kind, status = UNSPECIFIED, STATUS_UNSET
    failed = False
    message = ""
    ours: dict[str, Any] = {}
    attributes: dict[str, str] = {}
    counts = Counts()
    for key, value in _tags(span.get("tags")):
        if key == "span.kind" and value in _KIND:
            kind = _KIND[value]
        elif key == "otel.status_code" and value in _STATUS:
            status = _STATUS[value]
        elif key == "error" and value in _TRUE:
            failed = True
        elif key == "otel.status_description" and isinstance(value, str):
            message = value
        elif key in _OURS:
            ours[key] = value
        else:
            attributes[key] = _text(value)
    sender = _sender(span, processes, resources, gathered)
    promoted = _promoted(ours, attributes)
    attributes = _kept(attributes, sender.rules, counts)
    references = span.get("references") or ()
    return SpanRow(
        trace_id,
        _id(span, "spanID", 16),
        _parent(span, references, trace_id),
        sender.key,
        _text(span.get("operationName") or ""),
        kind,
        start_us * 1000,
        (start_us + duration_us) * 1000,
        STATUS_ERROR if failed else status,
        *promoted,
        attributes,
        _details(span, references, trace_id, message, sender.rules, counts),
    )


def _kept(attributes: Mapping[str, str], rules: Rules, counts: Counts) -> dict[str, str]:
    """Attributes within the limits, and without what may be a secret."""
    if len(attributes) > ATTRIBUTES:  # the ledger's own stay
        names = sorted(attributes, key=lambda name: name not in NEEDED)[:ATTRIBUTES]
        counts.attributes += len(attributes) - ATTRIBUTES
        attributes = {name: attributes[name] for name in names}
    kept: dict[str, str] = {}
    for name, value in attributes.items():
        if rules[name] is None and len(value) <= VALUE_CHARS and name not in _TEXTS:  # nearly always
            kept[name] = value
            continue
        if name in STATEMENTS and rules[name] is not None:
            value = statement(value, attributes.get("db.system.name") or attributes.get("db.system", ""))
        elif (rule := rules[name]) is not None:
            masked = rule(value)
            if masked is None:
                continue
            value = str(masked)
        kept[name], shortened = cut(value, name)
        counts.shortened += shortened
        if name in _TEXTS:
            kept[name] = BY_DEFAULT.text(kept[name])
    return kept


def _details(
    span: dict[str, Any], references: Any, trace_id: str, message: str, rules: Rules, counts: Counts
) -> SpanDetails:
    """What few spans have: what was logged in them, references into other traces, and what their status says."""
    logs = span.get("logs")
    events = _events(logs, rules, counts) if logs else []
    links: list[SpanLink] = []
    for reference in references:
        if isinstance(reference, dict) and reference.get("traceID") == trace_id and _is_id(reference.get("spanID"), 16):
            continue  # nearly always
        try:
            link = SpanLink(_id(reference, "traceID", 32), _id(reference, "spanID", 16), {})
        except (_Bad, AttributeError):  # costs itself
            counts.links += 1
            continue
        if link.trace_id != trace_id:
            links.append(link)
    counts.links += max(0, len(links) - LINKS)
    said, shortened = cut(_text(message))
    counts.shortened += shortened
    left_out = counts.total()
    if not (events or links or said or left_out):
        return NO_DETAILS
    return SpanDetails(BY_DEFAULT.text(said) or None, None, events or None, links[:LINKS] or None, left_out)


def _events(logs: Any, rules: Rules, counts: Counts) -> list[SpanEvent]:
    """The last exception, and the first events up to the limits, in order. One that cannot be read costs itself."""
    found: list[SpanEvent] = []
    for log in logs if isinstance(logs, list) else [logs] if logs else []:
        try:
            found.append(_event(log, rules, counts))
        except _Bad:
            counts.events += 1
    last = max((place for place, event in enumerate(found) if event.name == EXCEPTION), default=None)
    kept: set[int] = set()
    left = TOGETHER_CHARS
    for place in sorted(range(len(found)), key=lambda place: place != last):
        left -= len(found[place].name) + sum(len(key) + len(value) for key, value in found[place].attributes.items())
        if len(kept) == EVENTS or (left < 0 and kept):
            break
        kept.add(place)
    counts.events += len(found) - len(kept)
    return [event for place, event in enumerate(found) if place in kept]


def _event(log: Any, rules: Rules, counts: Counts) -> SpanEvent:
    if not isinstance(log, dict):
        raise _Bad(f"expected a log with timestamp and fields, found {shown(log)}")
    fields: dict[str, str] = {}
    for key, value in _tags(log.get("fields")):
        fields.setdefault(key, _text(value))
    name = fields.pop("event", "") or "log"
    if name == "error" and fields.keys() & _EXCEPTION_NAMES.keys():
        name = EXCEPTION
        for theirs, name_of_ours in _EXCEPTION_NAMES.items():
            if theirs in fields:
                fields.setdefault(name_of_ours, fields.pop(theirs))
    name, shortened = cut(name)
    counts.shortened += shortened
    return SpanEvent(_microseconds(log, "timestamp") * 1000, BY_DEFAULT.text(name), _kept(fields, rules, counts))


def _parent(span: dict[str, Any], references: Any, trace_id: str) -> str | None:
    follows: str | None = None
    for reference in references:
        if not isinstance(reference, dict):
            raise _Bad(f"expected a reference, found {shown(reference)}")
        if _id(reference, "traceID", 32) != trace_id:
            continue  # a link to another trace
        if reference.get("refType") == "CHILD_OF":
            return _id(reference, "spanID", 16)
        follows = follows or _id(reference, "spanID", 16)
    if follows is None and span.get("parentSpanID"):  # Jaeger before 1.4
        follows = _id(span, "parentSpanID", 16)
    return follows if follows != "0" * 16 else None


def _sender(
    span: dict[str, Any], processes: dict[str, Any], resources: dict[str, _Sender], gathered: Gathered
) -> _Sender:
    """The span's process, which stands in the trace or (in Jaeger's own storage) in the span."""
    name = span.get("processID")
    known = resources.get(name) if isinstance(name, str) else None
    if known is not None:
        return known
    process = processes.get(name) if isinstance(name, str) else span.get("process")
    if not isinstance(process, dict):
        raise _Bad(f"its processID is {shown(name)}; expected one of {', '.join(list(processes)[:5]) or 'none'}")
    attributes: dict[str, str] = {}
    for key, value in _tags(process.get("tags")):
        attributes.setdefault(_RESOURCE_NAMES.get(key, key), _text(value))
    if process.get("serviceName"):
        attributes["service.name"] = _text(process["serviceName"])
    found = _Sender(gathered.resource(attributes), BY_DEFAULT.rules(attributes))
    if isinstance(name, str):
        resources[name] = found
    return found


def _tags(tags: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(tags, list | None):
        raise _Bad(f"expected a list of tags, found {shown(tags)}")
    for tag in tags or ():
        key = tag.get("key") if isinstance(tag, dict) else None
        if not isinstance(key, str):
            raise _Bad(f"expected a tag with key, type and value, found {shown(tag)}")
        yield key, tag.get("value")


def _id(found: Mapping[str, Any], name: str, digits: int) -> str:
    """An id with its leading zeros."""
    text = found.get(name)
    if _is_id(text, digits):  # nearly always
        return str(text)
    if not isinstance(text, str) or len(text) > digits or not _HEX.fullmatch(text):
        raise _Bad(f"its {name} is {shown(text)}; expected up to {digits} hex digits")
    return text.lower().rjust(digits, "0")


def _is_id(text: Any, digits: int) -> bool:
    """Whether it is an id as it is kept."""
    return type(text) is str and len(text) == digits and _LOWER_HEX(text) is not None


def _microseconds(span: dict[str, Any], name: str) -> int:
    value = span.get(name)
    if type(value) is int and 0 <= value <= LAST_US:
        return value
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= LAST_US:
        raise _Bad(f"its {name} is {shown(value)}; expected microseconds")
    return value


def _text(value: Any) -> str:
    text = value if type(value) is str else attribute_text(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # lone surrogates are no text


def _promoted(
    ours: dict[str, Any], attributes: dict[str, str]
) -> tuple[int | None, str | None, str | None, list[int] | None, tuple[int | None, ...]]:
    """The wrapper's own account, as ``SpanRow`` has it. What is not as the wrapper writes it stays an attribute."""
    if not ours:
        return None, None, None, None, _NO_FIGURES
    figures = list(_NO_FIGURES)
    thread_id: int | None = None
    slices: list[int] | None = None
    words: dict[str, str] = {}
    for name, value in ours.items():
        if name in _FIGURE and type(value) is int and 0 <= value <= figure_limit(name):
            figures[_FIGURE[name]] = value
        elif name == THREAD_ID and type(value) is int and abs(value) < 2**63:
            thread_id = value
        elif name == SLICES and (found := _slices(value)) is not None:
            slices = found
        elif name in (ACCOUNT, ACCOUNT_REASON) and isinstance(value, str):
            words[name] = _text(value)
        else:
            attributes[name] = _text(value)
    return thread_id, words.get(ACCOUNT), words.get(ACCOUNT_REASON), slices, tuple(figures)


def _slices(value: Any) -> list[int] | None:
    """Jaeger has no lists: they are JSON in a text."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if isinstance(found, list) and found and len(found) % 4 == 0 and len(found) <= 256:
        return found if all(type(number) is int and 0 <= number <= FIGURE_LIMIT for number in found) else None
    return None
