"""Spans: an ExportTraceServiceRequest becomes rows.

A span that cannot be placed on the timeline (``bounds.py``) or in a trace is rejected and the others are kept. One that
ends a little before it starts, because a clock was corrected meanwhile, is kept without length. Attributes, events and
links are kept within limits (``limits.py``) and without what may be a secret (``masking.py``); the scope is
not stored. Cost: about 20 µs a span with 18 attributes (``python tests/api/bench_decode.py``), most of it attribute
access of the generated classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from layerline.attributes import ACCOUNT, ACCOUNT_REASON, SAMPLING_THRESHOLD, SLICES, SPAN_FIGURES, THREAD_ID
from layerline_api.doors.bounds import FIGURE_LIMIT, LAST_NS, Bounds, figure_limit, shown
from layerline_api.doors.otlp.envelope import groups, parse
from layerline_api.doors.otlp.limits import (
    ATTRIBUTES,
    EVENTS,
    LINKS,
    TOGETHER_CHARS,
    TRACE_STATE_CHARS,
    VALUE_CHARS,
    Counts,
    cut,
)
from layerline_api.doors.otlp.masking import BY_DEFAULT, STATEMENTS, Masking, Rules, statement
from layerline_api.doors.otlp.problems import Budget, Rejections
from layerline_api.doors.otlp.values import ZERO_SPAN, ZERO_TRACE, kept, text, texts, within
from layerline_correlator.store.model import (
    NO_DETAILS,
    Batch,
    ResourceRow,
    SpanDetails,
    SpanEvent,
    SpanLink,
    SpanRow,
    resource_key,
)

#: The name of a span event that tells of an exception (OpenTelemetry, "Exceptions on spans").
EXCEPTION = "exception"
#: The wrapper sends at most 16 slices of four integers; a span with very many more does not come from it.
SLICES_LIMIT = 4 * 64

#: ``ot=th:<up to 14 hex digits>`` among the members of a trace state, perhaps after other fields of ``ot``.
_THRESHOLD = re.compile(r"(?:^|,)\s*ot=(?:[^,]*;)?th:([0-9a-f]{1,14})(?![0-9a-f])")

_FIGURE = {name: index for index, name in enumerate(SPAN_FIGURES)}
_LIMIT = {name: figure_limit(name) for name in SPAN_FIGURES}
_PROMOTED = frozenset((*SPAN_FIGURES, SLICES, THREAD_ID, ACCOUNT, ACCOUNT_REASON))
_NO_FIGURES: tuple[int | None, ...] = (None,) * len(SPAN_FIGURES)


def decode_traces(
    body: bytes,
    bounds: Bounds | None = None,
    rejections: Rejections | None = None,
    masking: Masking = BY_DEFAULT,
) -> tuple[Batch, Rejections]:
    """The rows of the spans that can be kept, and the spans that cannot. ``Malformed``, ``TooLarge``."""
    batch, budget = Batch(), Budget()
    bounds = bounds or Bounds.now()
    rejections = Rejections() if rejections is None else rejections
    resources: set[str] = set()
    known: dict[str, str] = {}  # names and values repeat from span to span: one object each
    for sender, items in groups(body, budget):
        attributes = texts(sender.attributes, budget)
        resource = resource_key(attributes)
        rules = masking.rules(attributes)
        for raw in items:
            span = parse(Span, raw)
            reason = _misplaced(span, bounds)
            if reason:
                found = f"{shown(span.start_time_unix_nano)} to {shown(span.end_time_unix_nano)}"
                rejections.add(f"span {span.span_id[:8].hex() or '(no id)'} {span.name[:80]!r}", reason, found=found)
                continue
            if resource not in resources:
                resources.add(resource)
                batch.resources.append(ResourceRow(resource, attributes))
            batch.spans.append(_row(span, resource, known, budget, rules, masking))
    return batch, rejections


def _misplaced(span: Span, bounds: Bounds) -> str | None:
    """Why this span has no place in a trace or on the timeline; None when it has one."""
    if (reason := bounds.wrong_span(span.start_time_unix_nano, span.end_time_unix_nano)) is not None:
        return reason
    trace_id, span_id, parent = span.trace_id, span.span_id, span.parent_span_id
    if len(trace_id) != 16 or trace_id == ZERO_TRACE:
        return "its trace id is not 16 bytes that are not all zero"
    if len(span_id) != 8 or span_id == ZERO_SPAN:
        return "its span id is not 8 bytes that are not all zero"
    if parent and len(parent) != 8:
        return "its parent span id is not 8 bytes long"
    return None


def _row(span: Span, resource: str, known: dict[str, str], budget: Budget, rules: Rules, masking: Masking) -> SpanRow:
    thread_id: int | None = None
    account: str | None = None
    account_reason: str | None = None
    slices: list[int] | None = None
    figures: list[int | None] | None = None
    attributes: dict[str, str] = {}
    statements: list[str] | None = None
    counts: Counts | None = None
    items: Sequence[KeyValue] = span.attributes
    budget.attributes(len(items))
    if len(items) > ATTRIBUTES:
        counts = Counts()
        items = within(items, counts)
    for item in items:
        name, value = item.key, item.value
        if name in _PROMOTED:
            if name in _FIGURE:
                if (figure := _count(value, _LIMIT[name])) is not None:
                    figures = figures or list(_NO_FIGURES)
                    figures[_FIGURE[name]] = figure
                    continue
            elif name == THREAD_ID:
                if value.HasField("int_value"):
                    thread_id = value.int_value
                    continue
            elif name == SLICES:
                if (found := _slices(value)) is not None:
                    slices = found
                    continue
            elif value.string_value:
                if name == ACCOUNT:
                    account = known.setdefault(value.string_value, value.string_value)
                else:
                    account_reason = known.setdefault(value.string_value, value.string_value)
                continue
            # One of our names with a value that is not ours: an attribute like any other.
        content = value.string_value or text(value, budget)
        if (rule := rules[name]) is not None:
            if name in STATEMENTS:
                statements = [*(statements or ()), name]
            elif (content := rule(content)) is None:
                continue
        if len(content) > VALUE_CHARS:
            content, shortened = cut(content, name)
            counts = counts or Counts()
            counts.shortened += shortened
        attributes[known.setdefault(name, name)] = known.setdefault(content, content)
    for name in statements or ():  # what quotes mean depends on another attribute
        system = attributes.get("db.system.name") or attributes.get("db.system", "")
        attributes[name] = statement(attributes[name], system)
    if (state := span.trace_state) and (match := _THRESHOLD.search(state)):
        attributes[SAMPLING_THRESHOLD] = match[1]
    kind, said, name = span.kind, span.status, span.name
    status, message, parent = said.code, said.message, span.parent_span_id
    events, links = span.events, span.links
    dropped = span.dropped_attributes_count or span.dropped_events_count or span.dropped_links_count
    details = NO_DETAILS
    if events or links or message or state or dropped or counts is not None:
        details = _details(span, budget, rules, masking, counts or Counts())
    return SpanRow(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=parent.hex() if parent and parent != ZERO_SPAN else None,
        resource=resource,
        name=known.setdefault(name, name),
        kind=kind if 0 <= kind <= 5 else 0,
        start_ns=span.start_time_unix_nano,
        end_ns=max(span.start_time_unix_nano, span.end_time_unix_nano),
        status=status if 0 <= status <= 2 else 0,
        thread_id=thread_id,
        account=account,
        account_reason=account_reason,
        slices=slices,
        figures=_NO_FIGURES if figures is None else tuple(figures),
        attributes=attributes,
        details=details,
    )


def _details(span: Span, budget: Budget, rules: Rules, masking: Masking, counts: Counts) -> SpanDetails:
    """What few spans have: events, links, a message, and counts of what is not kept."""
    counts.attributes += span.dropped_attributes_count
    counts.events += span.dropped_events_count
    counts.links += span.dropped_links_count
    events = _events(span, budget, rules, masking, counts) if span.events else None
    links = _links(span, budget, rules, masking, counts) if span.links else None
    message, state = span.status.message, span.trace_state
    if message:
        message, shortened = cut(message)
        counts.shortened += shortened
        message = masking.text(message)
    return SpanDetails(message or None, state[:TRACE_STATE_CHARS] or None, events, links, counts.total())


def _events(span: Span, budget: Budget, rules: Rules, masking: Masking, counts: Counts) -> list[SpanEvent]:
    """The last exception, which is the one that ended the span, and the first events up to the limits."""
    found = list(span.events)
    budget.attributes(len(found))
    places = list(range(min(len(found), EVENTS)))
    last = next((place for place in range(len(found) - 1, -1, -1) if found[place].name == EXCEPTION), None)
    if last is not None and last >= EVENTS:
        places[-1] = last
    events: dict[int, SpanEvent] = {}
    left = TOGETHER_CHARS
    for place in sorted(places, key=lambda place: place != last):
        raw = found[place]
        name, shortened = cut(raw.name)
        counts.shortened += shortened
        counts.attributes += raw.dropped_attributes_count
        attributes = kept(raw.attributes, rules, masking, budget, counts)
        left -= len(name) + sum(len(key) + len(value) for key, value in attributes.items())
        if left < 0 and events:
            break
        events[place] = SpanEvent(min(raw.time_unix_nano, LAST_NS), name, attributes)
    counts.events += len(found) - len(events)
    return [event for _, event in sorted(events.items())]


def _links(span: Span, budget: Budget, rules: Rules, masking: Masking, counts: Counts) -> list[SpanLink]:
    """The first links up to the limits; one that names no span is none."""
    budget.attributes(len(span.links))
    links: list[SpanLink] = []
    left = TOGETHER_CHARS
    for raw in span.links[:LINKS]:
        if len(raw.trace_id) != 16 or len(raw.span_id) != 8:
            continue
        counts.attributes += raw.dropped_attributes_count
        attributes = kept(raw.attributes, rules, masking, budget, counts)
        left -= sum(len(key) + len(value) for key, value in attributes.items())
        if left < 0:
            break
        links.append(SpanLink(raw.trace_id.hex(), raw.span_id.hex(), attributes))
    counts.links += len(span.links) - len(links)
    return links


def _count(value: AnyValue, limit: int = FIGURE_LIMIT) -> int | None:
    """A figure: an integer that is not negative, and not absurd."""
    if not value.HasField("int_value"):
        return None
    figure = value.int_value
    return figure if 0 <= figure <= limit else None


def _slices(value: AnyValue) -> list[int] | None:
    """Four integers a slice (offset, length, cpu, wait), none negative; None where it is anything else."""
    found = value.array_value.values
    if not found or len(found) % 4 or len(found) > SLICES_LIMIT:
        return None
    numbers = [_count(item) for item in found]
    kept = [number for number in numbers if number is not None]
    return kept if len(kept) == len(numbers) else None
