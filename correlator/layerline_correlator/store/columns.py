"""Spans as columns: what the doors read is written without a Python object for each span or attribute.

``SpanColumns`` is also a sequence of ``SpanRow``, for those who make or read single spans. An attribute is a place in
``names`` and ``texts``: most of them repeat from span to span. What few spans have is kept by the span's place.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, overload

import pyarrow as pa

from layerline.attributes import SPAN_FIGURES, column
from layerline_correlator.store.model import NO_DETAILS, LeftOut, SpanDetails, SpanRow

#: What an attribute map is in Arrow.
TEXT_MAP = pa.map_(pa.string(), pa.string())
LEFT_OUT = pa.struct([(name, pa.int64()) for name in LeftOut._fields])

_ACCOUNT = {
    "thread_id": pa.int64(),
    "account": pa.string(),
    "account_reason": pa.string(),
    "slices": pa.list_(pa.int64()),
}
_DETAILS = {
    "status_message": pa.string(),
    "trace_state": pa.string(),
    "events": pa.list_(pa.struct([("time_ns", pa.int64()), ("name", pa.string()), ("attributes", TEXT_MAP)])),
    "links": pa.list_(pa.struct([("trace_id", pa.string()), ("span_id", pa.string()), ("attributes", TEXT_MAP)])),
    "left_out": LEFT_OUT,
}
_FIGURES = tuple(column(name) for name in SPAN_FIGURES)
_NO_FIGURES: tuple[int | None, ...] = (None,) * len(_FIGURES)


class Account(NamedTuple):
    """What our wrapper says of a span; the fields of ``SpanRow``."""

    thread_id: int | None = None
    account: str | None = None
    account_reason: str | None = None
    slices: list[int] | None = None
    figures: tuple[int | None, ...] = _NO_FIGURES


NO_ACCOUNT = Account()


class SpanColumns(Sequence[SpanRow]):
    """Spans, one list for each column. All lists without a default here are as long as there are spans."""

    __slots__ = (
        "_known",
        "accounts",
        "attributes",
        "details",
        "end_ns",
        "ends",
        "kind",
        "name",
        "names",
        "parent_span_id",
        "resource",
        "span_id",
        "start_ns",
        "status",
        "texts",
        "trace_id",
    )

    def __init__(self, rows: Iterable[SpanRow] = ()) -> None:
        """Those of the rows."""
        self.trace_id: list[str] = []
        self.span_id: list[str] = []
        self.parent_span_id: list[str | None] = []
        self.resource: list[str] = []
        self.name: list[str] = []
        self.kind: list[int] = []
        self.start_ns: list[int] = []
        self.end_ns: list[int] = []
        self.status: list[int] = []
        #: Where the attributes of each span end in ``attributes``.
        self.ends = array("i")
        #: Attributes of all spans, one after the other: places in ``names`` and ``texts``.
        self.attributes = array("i")
        self.names: list[str] = []
        self.texts: list[str] = []
        #: By the span's place, where there is anything to say.
        self.accounts: dict[int, Account] = {}
        self.details: dict[int, SpanDetails] = {}
        self._known: dict[tuple[str, str], int] = {}  # places of attributes that came in rows
        self.extend(rows)

    def __len__(self) -> int:
        return len(self.trace_id)

    def __iter__(self) -> Iterator[SpanRow]:
        return (self._row(place) for place in range(len(self)))

    @overload
    def __getitem__(self, place: int) -> SpanRow: ...
    @overload
    def __getitem__(self, place: slice) -> list[SpanRow]: ...
    def __getitem__(self, place: int | slice) -> SpanRow | list[SpanRow]:
        places = range(len(self))[place]
        return self._row(places) if isinstance(places, int) else [self._row(each) for each in places]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return repr(list(self))

    def append(self, row: SpanRow) -> None:
        """One more span."""
        place = len(self)
        self.trace_id.append(row.trace_id)
        self.span_id.append(row.span_id)
        self.parent_span_id.append(row.parent_span_id)
        self.resource.append(row.resource)
        self.name.append(row.name)
        self.kind.append(row.kind)
        self.start_ns.append(row.start_ns)
        self.end_ns.append(row.end_ns)
        self.status.append(row.status)
        for item in row.attributes.items():
            at = self._known.get(item)
            if at is None:
                at = self._known[item] = len(self.names)
                self.names.append(item[0])
                self.texts.append(item[1])
            self.attributes.append(at)
        self.ends.append(len(self.attributes))
        account = Account(*row[9:14])
        if account != NO_ACCOUNT:
            self.accounts[place] = account
        if row.details is not NO_DETAILS:
            self.details[place] = row.details

    def extend(self, rows: Iterable[SpanRow]) -> None:
        """More spans; those of other columns without making rows of them."""
        if not isinstance(rows, SpanColumns):
            for row in rows:
                self.append(row)
            return
        first, names, items = len(self), len(self.names), len(self.attributes)
        for mine, more in zip(self._dense(), rows._dense(), strict=True):
            mine.extend(more)
        self.ends.extend([end + items for end in rows.ends] if items else rows.ends)
        self.attributes.extend([place + names for place in rows.attributes] if names else rows.attributes)
        self.names.extend(rows.names)
        self.texts.extend(rows.texts)
        self.accounts.update({first + place: account for place, account in rows.accounts.items()})
        self.details.update({first + place: details for place, details in rows.details.items()})

    def table(self) -> pa.Table:
        """As Arrow has them, by the names of the store's columns. Columns without any value are left out."""
        columns: dict[str, pa.Array] = {
            "trace_id": pa.array(self.trace_id, pa.string()),
            "span_id": pa.array(self.span_id, pa.string()),
            "parent_span_id": pa.array(self.parent_span_id, pa.string()),
            "resource": pa.array(self.resource, pa.string()),
            "name": pa.array(self.name, pa.string()),
            "kind": pa.array(self.kind, pa.int8()),
            "start_ns": pa.array(self.start_ns, pa.int64()),
            "end_ns": pa.array(self.end_ns, pa.int64()),
            "status": pa.array(self.status, pa.int8()),
        }
        if self.accounts:
            rows = [self.accounts.get(place, NO_ACCOUNT) for place in range(len(self))]
            *told, figures = zip(*rows, strict=True)
            for (name, kind), values in zip(_ACCOUNT.items(), told, strict=True):
                columns[name] = pa.array(values, kind)
            for name, values in zip(_FIGURES, zip(*figures, strict=True), strict=True):
                if any(value is not None for value in values):
                    columns[name] = pa.array(values, pa.int64())
        columns["attributes"] = self._maps()
        if self.details:
            few = [_written(self.details.get(place, NO_DETAILS)) for place in range(len(self))]
            for (name, kind), values in zip(_DETAILS.items(), zip(*few, strict=True), strict=True):
                columns[name] = pa.array(values, kind)
        return pa.table(columns)

    def _maps(self) -> pa.Array:
        starts, places = _integers(array("i", (0, *self.ends))), _integers(self.attributes)
        names, texts = pa.array(self.names, pa.string()), pa.array(self.texts, pa.string())
        return pa.MapArray.from_arrays(starts, names.take(places), texts.take(places))

    def _dense(self) -> tuple[list[Any], ...]:
        return (
            self.trace_id,
            self.span_id,
            self.parent_span_id,
            self.resource,
            self.name,
            self.kind,
            self.start_ns,
            self.end_ns,
            self.status,
        )

    def _row(self, place: int) -> SpanRow:
        begin = self.ends[place - 1] if place else 0
        found = self.attributes[begin : self.ends[place]]
        return SpanRow._make(
            (
                *(values[place] for values in self._dense()),
                *self.accounts.get(place, NO_ACCOUNT),
                {self.names[at]: self.texts[at] for at in found},
                self.details.get(place, NO_DETAILS),
            )
        )


def _integers(values: array[int]) -> pa.Array:
    """Their memory as it is: ``pa.array`` would look at each."""
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])


def _written(details: SpanDetails) -> tuple[Any, ...]:
    """The columns of what few spans have."""
    if details is NO_DETAILS:
        return NO_DETAILS
    message, state, events, links, left_out = details
    return (
        message,
        state,
        events and [event._asdict() | {"attributes": list(event.attributes.items())} for event in events],
        links and [link._asdict() | {"attributes": list(link.attributes.items())} for link in links],
        left_out and left_out._asdict(),
    )
