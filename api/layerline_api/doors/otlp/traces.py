"""Spans: an ExportTraceServiceRequest becomes columns.

A span that cannot be placed on the timeline (``bounds.py``) or in a trace is rejected and the others are kept. One that
ends a little before it starts, because a clock was corrected meanwhile, is kept without length. Attributes, events and
links are kept within limits (``limits.py``) and without what may be a secret (``masking.py``); the scope is
not stored.

No object is made for a span, and each different attribute of a body is parsed once (``_Places``). What it costs is
printed by ``python tests/api/bench_decode.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

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
from layerline_api.doors.otlp.slim import Slim, SlimSpan
from layerline_api.doors.otlp.values import ZERO_SPAN, ZERO_TRACE, kept, text, texts, within
from layerline_correlator.store.columns import Account, SpanColumns
from layerline_correlator.store.model import Batch, ResourceRow, SpanDetails, SpanEvent, SpanLink, resource_key

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
    """The columns of the spans that can be kept, and the spans that cannot. ``Malformed``, ``TooLarge``."""
    columns, budget = SpanColumns(), Budget()
    batch = Batch(spans=columns)
    bounds = bounds or Bounds.now()
    rejections = Rejections() if rejections is None else rejections
    resources: set[str] = set()
    readers: dict[int, _Reader] = {}
    for sender, items in groups(body, budget):
        attributes = texts(sender.attributes, budget)
        resource = resource_key(attributes)
        rules = masking.rules(attributes)
        reader = readers.get(id(rules))
        if reader is None:
            reader = readers[id(rules)] = _Reader(columns, budget, rules, masking)
        for raw in items:
            span = parse(Slim, raw)
            reason = _misplaced(span, bounds)
            if reason:
                found = f"{shown(span.start_time_unix_nano)} to {shown(span.end_time_unix_nano)}"
                rejections.add(f"span {span.span_id[:8].hex() or '(no id)'} {span.name[:80]!r}", reason, found=found)
                continue
            if resource not in resources:
                resources.add(resource)
                batch.resources.append(ResourceRow(resource, attributes))
            reader.add(span, resource)
    return batch, rejections


def _misplaced(span: SlimSpan, bounds: Bounds) -> str | None:
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


class _Special(NamedTuple):
    """An attribute that is not simply written, and what is done with it."""

    what: int  # the figure's place in ``SPAN_FIGURES``, or one of the next
    value: object = None
    place: int = 0


#: Not kept; shortened, which is counted; masked by what another attribute says; what the wrapper says of its account.
_DROPPED, _SHORTENED, _STATEMENT, _THREAD_ID, _ACCOUNT, _REASON, _SLICES = range(-7, 0)
_NOTHING = _Special(_DROPPED)


class _Places(dict[bytes, int]):
    """Where each different attribute of a body is kept, by its bytes: a place in the columns' ``names`` and ``texts``.

    For those of ``specials`` it is ``-1 - place`` there.
    """

    def __init__(self, columns: SpanColumns, budget: Budget, rules: Rules) -> None:
        super().__init__()
        self.specials: list[_Special] = []
        self._names, self._texts = columns.names, columns.texts
        self._budget, self._rules = budget, rules
        self._made: dict[tuple[str, str], int] = {}

    def __missing__(self, raw: bytes) -> int:
        """Parse it, and remember it unless it costs the budget each time. ``Malformed``, ``TooLarge``."""
        item = parse(KeyValue, raw)
        name, value = item.key, item.value
        content = value.string_value
        if content and name not in _PROMOTED and len(content) <= VALUE_CHARS and self._rules[name] is None:  # mostly
            place = self[raw] = self._kept(name, content)
            return place
        special = _ours(name, value) if name in _PROMOTED else None
        if special is None:
            content = content or text(value, self._budget)
            if (rule := self._rules[name]) is not None and name not in STATEMENTS:
                masked = rule(content)
                special = _NOTHING if masked is None else None
                content = str(masked)
        if special is None:
            content, shortened = cut(content, name)
            place = self._kept(name, content)
            if name in STATEMENTS and self._rules[name] is not None:
                special = _Special(_STATEMENT, shortened, place)
            elif shortened:
                special = _Special(_SHORTENED, None, place)
        if special is not None:
            self.specials.append(special)
            place = -len(self.specials)
        if not (value.HasField("array_value") or value.HasField("kvlist_value")):
            self[raw] = place
        return place

    def made(self, name: str, content: str) -> int:
        """The place of what was not sent like that."""
        place = self._made.get((name, content))
        if place is None:
            place = self._made[name, content] = self._kept(name, content)
        return place

    def _kept(self, name: str, content: str) -> int:
        self._names.append(name)
        self._texts.append(content)
        return len(self._names) - 1


def _ours(name: str, value: AnyValue) -> _Special | None:
    """What the wrapper says in one of its own attributes; None where the value is not as the wrapper writes it."""
    if name in _FIGURE:
        figure = _count(value, _LIMIT[name])
        return None if figure is None else _Special(_FIGURE[name], figure)
    if name == THREAD_ID:
        return _Special(_THREAD_ID, value.int_value) if value.HasField("int_value") else None
    if name == SLICES:
        slices = _slices(value)
        return None if slices is None else _Special(_SLICES, slices)
    return _Special(_ACCOUNT if name == ACCOUNT else _REASON, value.string_value) if value.string_value else None


class _Reader:
    """Fills the columns with spans of senders whose attributes are masked by the same rules."""

    def __init__(self, columns: SpanColumns, budget: Budget, rules: Rules, masking: Masking) -> None:
        self._columns, self._budget, self._rules, self._masking = columns, budget, rules, masking
        self._places = _Places(columns, budget, rules)

    def add(self, span: SlimSpan, resource: str) -> None:
        """One more span, whose times and ids can be. ``Malformed``, ``TooLarge``."""
        columns = self._columns
        counts: Counts | None = None
        attributes: Sequence[bytes] = span.attributes
        self._budget.attributes(len(attributes))
        if len(attributes) > ATTRIBUTES:
            counts = Counts()
            attributes = [
                item.SerializeToString() for item in within([parse(KeyValue, raw) for raw in attributes], counts)
            ]
        places = list(map(self._places.__getitem__, attributes))
        if places and min(places) < 0:
            counts = counts or Counts()
            places = self._special(places, counts)
        if (state := span.trace_state) and (match := _THRESHOLD.search(state)):
            places.append(self._places.made(SAMPLING_THRESHOLD, match[1]))
        names = columns.names
        if len({names[place] for place in places}) < len(places):  # of a name that comes twice, the last
            places = list({names[place]: place for place in places}.values())
        if (
            span.events
            or span.links
            or state
            or span.dropped_attributes_count
            or span.dropped_events_count
            or span.dropped_links_count
            or span.status.message
            or (counts is not None and counts.total())
        ):
            columns.details[len(columns)] = _details(span, self._budget, self._rules, self._masking, counts or Counts())
        columns.attributes.fromlist(places)
        columns.ends.append(len(columns.attributes))
        columns.span_id.append(span.span_id.hex())
        parent, kind, status = span.parent_span_id, span.kind, span.status.code
        columns.parent_span_id.append(parent.hex() if parent and parent != ZERO_SPAN else None)
        columns.resource.append(resource)
        columns.name.append(span.name)
        columns.kind.append(kind if 0 <= kind <= 5 else 0)
        start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
        columns.start_ns.append(start_ns)
        columns.end_ns.append(max(start_ns, end_ns))
        columns.status.append(status if 0 <= status <= 2 else 0)
        columns.trace_id.append(span.trace_id.hex())

    def _special(self, found: list[int], counts: Counts) -> list[int]:
        """The places of the attributes that are left when the special ones have been seen to."""
        columns, specials = self._columns, self._places.specials
        figures: list[int | None] | None = None
        told: dict[int, Any] = {}
        statements: list[int] = []
        places: list[int] = []
        for place in found:
            if place >= 0:
                places.append(place)
                continue
            what, value, place = specials[-1 - place]
            if what >= 0:
                figures = figures or list(_NO_FIGURES)
                figures[what] = cast("int", value)
            elif what >= _THREAD_ID:
                told[what] = value
            elif what == _SHORTENED:
                counts.shortened += 1
                places.append(place)
            elif what == _STATEMENT:
                counts.shortened += bool(value)
                statements.append(len(places))
                places.append(place)
        if figures or told:
            columns.accounts[len(columns)] = Account(
                told.get(_THREAD_ID),
                told.get(_ACCOUNT),
                told.get(_REASON),
                told.get(_SLICES),
                _NO_FIGURES if figures is None else tuple(figures),
            )
        if statements:  # what quotes mean depends on another attribute
            said = {columns.names[place]: columns.texts[place] for place in places}
            system = said.get("db.system.name") or said.get("db.system", "")
            for at in statements:
                name = columns.names[places[at]]
                places[at] = self._places.made(name, statement(said[name], system))
        return places


def _details(span: SlimSpan, budget: Budget, rules: Rules, masking: Masking, counts: Counts) -> SpanDetails:
    """What few spans have: events, links, a message, and counts of what is not kept."""
    counts.attributes += span.dropped_attributes_count
    counts.events += span.dropped_events_count
    counts.links += span.dropped_links_count
    events = _events(span.events, budget, rules, masking, counts) if span.events else None
    links = _links(span.links, budget, rules, masking, counts) if span.links else None
    message, state = span.status.message, span.trace_state
    if message:
        message, shortened = cut(message)
        counts.shortened += shortened
        message = masking.text(message)
    return SpanDetails(message or None, state[:TRACE_STATE_CHARS] or None, events, links, counts.total())


def _events(raws: Sequence[bytes], budget: Budget, rules: Rules, masking: Masking, counts: Counts) -> list[SpanEvent]:
    """The last exception, which is the one that ended the span, and the first events up to the limits."""
    budget.attributes(len(raws))
    found = [parse(Span.Event, raw) for raw in raws]
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


def _links(raws: Sequence[bytes], budget: Budget, rules: Rules, masking: Masking, counts: Counts) -> list[SpanLink]:
    """The first links up to the limits; one that names no span is none."""
    budget.attributes(len(raws))
    links: list[SpanLink] = []
    left = TOGETHER_CHARS
    for raw in (parse(Span.Link, link) for link in raws[:LINKS]):
        if len(raw.trace_id) != 16 or len(raw.span_id) != 8:
            continue
        counts.attributes += raw.dropped_attributes_count
        attributes = kept(raw.attributes, rules, masking, budget, counts)
        left -= sum(len(key) + len(value) for key, value in attributes.items())
        if left < 0:
            break
        links.append(SpanLink(raw.trace_id.hex(), raw.span_id.hex(), attributes))
    counts.links += len(raws) - len(links)
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
