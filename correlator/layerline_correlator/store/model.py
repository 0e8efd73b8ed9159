"""What comes into the store: plain rows, as the receivers decode them and the store writes them.

A ``Batch`` is one or more OTLP requests. Its rows are tuples, because hundreds of thousands of them pass per second.
Ids are lower-case hex. Times are integer nanoseconds since 1970, UTC.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, overload

#: OTLP's SpanKind and StatusCode, by number.
UNSPECIFIED, INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(6)
STATUS_UNSET, STATUS_OK, STATUS_ERROR = range(3)
#: OTLP's SeverityNumber from which on a log record tells of an error, and of a warning.
ERROR, WARN = 17, 13


class ResourceRow(NamedTuple):
    """Who sent it: the OTLP resource. ``resource`` is ``resource_key(attributes)``."""

    resource: str
    attributes: dict[str, str]


class LeftOut(NamedTuple):
    """What of a span or a log record is not kept, because it is beyond the sender's limits or ours."""

    attributes: int = 0  # those of events and links among them
    events: int = 0
    links: int = 0
    shortened: int = 0  # values that were cut


class SpanEvent(NamedTuple):
    """Something that happened within a span: an exception, or what its code wanted to note."""

    time_ns: int
    name: str
    attributes: dict[str, str]


class SpanLink(NamedTuple):
    """Another span that this one has to do with, usually of another trace."""

    trace_id: str
    span_id: str
    attributes: dict[str, str]


class SpanDetails(NamedTuple):
    """What few spans have. None where there is nothing of it."""

    status_message: str | None = None
    trace_state: str | None = None
    events: list[SpanEvent] | None = None
    links: list[SpanLink] | None = None
    left_out: LeftOut | None = None


NO_DETAILS = SpanDetails()


class SpanRow(NamedTuple):
    """One span. ``figures`` follows ``layerline.attributes.SPAN_FIGURES``; None where the span does not carry one."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    resource: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    thread_id: int | None
    account: str | None
    account_reason: str | None
    slices: list[int] | None
    figures: tuple[int | None, ...]
    attributes: dict[str, str]  # all others
    details: SpanDetails = NO_DETAILS


class Spans(Protocol):
    """Spans of a batch: a list of rows, or columns (``columns.py``), which the doors fill."""

    def append(self, row: SpanRow, /) -> None: ...
    def extend(self, rows: Iterable[SpanRow], /) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[SpanRow]: ...
    @overload
    def __getitem__(self, place: int, /) -> SpanRow: ...
    @overload
    def __getitem__(self, place: slice, /) -> list[SpanRow]: ...


class SeriesRow(NamedTuple):
    """One series of points. ``series`` is ``series_key(resource, signal, attributes)``."""

    series: str
    resource: str
    signal: str  # the catalogue's name where it knows the metric, else the metric's own
    unit: str
    kind: str  # "cumulative" | "delta" | "gauge"
    attributes: dict[str, str]
    source: str = ""  # who read it, in the words of ``layerline.aliases``; "" where nothing tells


class PointRow(NamedTuple):
    """One value of a series, in the catalogue's unit. ``start_ns`` is OTLP's start time, 0 where unknown."""

    series: str
    start_ns: int
    time_ns: int
    value: float


class EventRow(NamedTuple):
    """Something that happened: an OTLP log record with an event name."""

    resource: str
    time_ns: int
    name: str
    body: str
    attributes: dict[str, str]


class LogRow(NamedTuple):
    """One log record. Ids are None where it names no trace or no span."""

    resource: str
    time_ns: int
    trace_id: str | None
    span_id: str | None
    severity: int  # OTLP's SeverityNumber, 0 where it is not said: 9 is INFO, 13 WARN, 17 ERROR, 21 FATAL
    severity_text: str
    body: str
    attributes: dict[str, str]
    left_out: LeftOut | None = None


class RecordingRow(NamedTuple):
    """How far one file of recorded data was read. It becomes durable together with the rows that were read."""

    source: str  # the file's absolute path
    bytes: int
    modified_ns: int  # with the size: whether it is still the same file
    offset: int  # where reading goes on: bytes of the (decompressed) file, or rows of a table
    line: int
    inside: str  # the list of a JSON document that the offset is in
    rejected: int  # items that could not be read
    left_out: int  # items that are not kept, such as log records that are no events
    finished: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that become durable together."""

    resources: list[ResourceRow] = field(default_factory=list)
    spans: Spans = field(default_factory=list[SpanRow])
    series: list[SeriesRow] = field(default_factory=list)
    points: list[PointRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    logs: list[LogRow] = field(default_factory=list)
    recordings: list[RecordingRow] = field(default_factory=list)


def attribute_text(value: object) -> str:
    """An attribute's value as the store keeps it: strings as they are, everything else as compact JSON."""
    if isinstance(value, str):
        return value
    if type(value) is int:  # what most of the others are: fifteen times as fast
        return str(value)
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _key(*parts: object) -> str:
    text = json.dumps(parts, separators=(",", ":"), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def resource_key(attributes: Mapping[str, str]) -> str:
    """The same attributes in any order are the same resource: 24 hex digits."""
    return _key(dict(attributes))


def series_key(resource: str, signal: str, attributes: Mapping[str, str]) -> str:
    """The same signal of the same resource with the same attributes is the same series: 24 hex digits."""
    return _key(resource, signal, dict(attributes))
