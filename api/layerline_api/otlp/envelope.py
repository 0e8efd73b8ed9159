"""The outer levels of an OTLP request, opened one at a time, with their items left as bytes.

All three OTLP requests have the same skeleton: groups (one per resource) of scopes of items, with the same field
numbers. Parsing the whole request with the generated classes costs up to 87 times its size in memory (16 MiB of empty
spans took 1.4 GB), so a body within the size limit could still kill the server. These three messages are
wire-compatible with OTLP's and keep what is inside as bytes; each item is then parsed alone by its generated class
and dropped before the next.

Source: opentelemetry-proto 1.x, ``collector/*/v1/*_service.proto`` and ``*/v1/*.proto``: field 1 of a request is
``resource_*``; of a group 1 is ``resource`` and 2 ``scope_*``; of a scope 2 is ``spans``, ``metrics``, ``log_records``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from layerline_api.otlp.problems import Malformed, TooLarge

M = TypeVar("M")

#: No item (a span, a metric with its points, a log record) and no resource is larger than this, in bytes.
ITEM_LIMIT_BYTES = 4 * 2**20
#: No request holds more items than this. Exporters send 512 at a time, the Collector 8192.
ITEMS_LIMIT = 200_000


def _messages() -> tuple[Any, Any, Any]:
    file = FileDescriptorProto(name="layerline/envelope.proto", package="layerline.envelope", syntax="proto3")
    one, many = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    shapes: dict[str, dict[str, tuple[int, FieldDescriptorProto.Label.ValueType]]] = {
        "Request": {"groups": (1, many)},
        "Group": {"resource": (1, one), "scopes": (2, many)},
        "Scope": {"items": (2, many)},
    }
    for name, members in shapes.items():
        message = file.message_type.add(name=name)
        for member, (number, label) in members.items():
            message.field.add(name=member, number=number, label=label, type=FieldDescriptorProto.TYPE_BYTES)
    pool = DescriptorPool()
    pool.Add(file)
    request, group, scope = (
        GetMessageClass(pool.FindMessageTypeByName(f"layerline.envelope.{name}")) for name in shapes
    )
    return request, group, scope


_Request, _Group, _Scope = _messages()


def groups(body: bytes) -> Iterator[tuple[Resource, Iterator[bytes]]]:
    """The resource of each group, and its items as bytes. ``Malformed``, ``TooLarge``."""
    seen = 0

    def items(scopes: list[bytes]) -> Iterator[bytes]:
        nonlocal seen
        for scope in scopes:
            found = _parse(_Scope, scope).items
            seen += len(found)
            if seen > ITEMS_LIMIT:
                raise TooLarge(f"the request holds more than {ITEMS_LIMIT:,} items")
            for item in found:
                if len(item) > ITEM_LIMIT_BYTES:
                    raise TooLarge(f"one item is {len(item):,} bytes long, more than {ITEM_LIMIT_BYTES:,}")
                yield item

    for raw in _parse(_Request, body).groups:
        group = _parse(_Group, raw)
        if len(group.resource) > ITEM_LIMIT_BYTES:
            raise TooLarge(f"one resource is {len(group.resource):,} bytes long, more than {ITEM_LIMIT_BYTES:,}")
        yield parse(Resource, group.resource), items(group.scopes)


def _parse(message: Any, raw: bytes) -> Any:
    try:
        return message.FromString(raw)
    except DecodeError:
        raise Malformed("the body is not an OTLP request in protobuf") from None


def parse(message: type[M], raw: bytes) -> M:
    """The item of that generated class. ``Malformed``."""
    parsed: M = _parse(message, raw)
    return parsed
