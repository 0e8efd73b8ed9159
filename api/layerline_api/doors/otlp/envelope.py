"""The outer levels of an OTLP request, opened without building them; what is inside is given out item by item.

All three OTLP requests have the same skeleton: groups (one per resource) of scopes of items, with the same field
numbers. Parsing a whole request with the generated classes costs up to 87 times its size in memory (16 MiB of empty
spans took 1.4 GB; `repeated bytes` still 5 GB for 64 MiB), so a body within the size limit could kill the server. So
each item is found by its place, parsed alone by its generated class, and dropped before the next; and everything
counted is counted before it is built (``Budget``).

Source: opentelemetry-proto 1.x, ``collector/*/v1/*_service.proto`` and ``*/v1/*.proto``: field 1 of a request is
``resource_*``; of a group 1 is ``resource`` and 2 ``scope_*``; of a scope 2 is ``spans``, ``metrics``, ``log_records``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from layerline_api.doors.otlp.problems import Budget, Malformed, TooLarge
from layerline_api.doors.otlp.wire import fields

M = TypeVar("M", bound=Message)

#: No item (a span, a metric with its points, a log record) is larger than this, in bytes.
ITEM_LIMIT_BYTES = 4 * 2**20
#: No resource is larger than this, in bytes.
RESOURCE_LIMIT_BYTES = 256 * 2**10

_GROUP = 1  # of a request
_RESOURCE, _SCOPE = 1, 2  # of a group
_LIBRARY = 1000  # what senders of the years before OTLP 0.19 also called a scope: `instrumentation_library_*`
_ITEM = 2  # of a scope


def groups(body: bytes, budget: Budget) -> Iterator[tuple[Resource, Iterator[bytes]]]:
    """The resource of each group, and its items as bytes. ``Malformed``, ``TooLarge``."""
    for number, begin, end in fields(body, 0, len(body)):
        if number != _GROUP:
            continue
        budget.items(1)
        resource = b""
        scopes: list[tuple[int, int]] = []
        for inner, inner_begin, inner_end in fields(body, begin, end):
            if inner == _RESOURCE:  # given twice, the parts are merged, which is what protobuf makes of them joined
                _within(len(resource) + inner_end - inner_begin, RESOURCE_LIMIT_BYTES, "resource")
                resource += body[inner_begin:inner_end]
            elif inner in (_SCOPE, _LIBRARY):
                budget.items(1)
                scopes.append((inner_begin, inner_end))
        yield parse(Resource, resource), _items(body, scopes, budget)


def _items(body: bytes, scopes: list[tuple[int, int]], budget: Budget) -> Iterator[bytes]:
    for begin, end in scopes:
        for number, item_begin, item_end in fields(body, begin, end):
            if number == _ITEM:
                budget.items(1)
                _within(item_end - item_begin, ITEM_LIMIT_BYTES, "item")
                yield body[item_begin:item_end]


def _within(size: int, limit_bytes: int, what: str) -> None:
    if size > limit_bytes:
        raise TooLarge(f"one {what} is {size:,} bytes long, more than {limit_bytes:,}")


def parse(message: type[M], raw: bytes) -> M:
    """The item of that generated class. ``Malformed``."""
    try:
        return message.FromString(raw)
    except DecodeError:
        raise Malformed(f"the body is not an OTLP request in protobuf: a {message.__name__} in it is none") from None
