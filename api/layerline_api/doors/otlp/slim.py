"""A span in protobuf of which only the outer level is read: attributes, events and links stay bytes.

Most attributes of a body repeat from span to span, so their bytes are looked up instead of being parsed again. The
messages are wire-compatible with OpenTelemetry's own, and read by the same parser; fields that are not named here are
skipped.

Source: opentelemetry-proto 1.x, ``trace/v1/trace.proto``, ``Span`` and ``Status``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_BYTES, _TEXT = FieldDescriptorProto.TYPE_BYTES, FieldDescriptorProto.TYPE_STRING
_INT32, _UINT32 = FieldDescriptorProto.TYPE_INT32, FieldDescriptorProto.TYPE_UINT32
_FIXED64, _MESSAGE = FieldDescriptorProto.TYPE_FIXED64, FieldDescriptorProto.TYPE_MESSAGE
_ONE, _MANY = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED


class SlimStatus(Message):
    """How a span ended."""

    message: str
    code: int


class SlimSpan(Message):
    """One span; what is in ``attributes``, ``events`` and ``links`` is not yet parsed."""

    trace_id: bytes
    span_id: bytes
    trace_state: str
    parent_span_id: bytes
    name: str
    kind: int
    start_time_unix_nano: int
    end_time_unix_nano: int
    attributes: Sequence[bytes]
    dropped_attributes_count: int
    events: Sequence[bytes]
    dropped_events_count: int
    links: Sequence[bytes]
    dropped_links_count: int
    status: SlimStatus


def _span() -> type[SlimSpan]:
    file = FileDescriptorProto(name="layerline/slim.proto", package="layerline.slim", syntax="proto3")
    _add(file.message_type.add(name="Status"), ("message", 2, _TEXT, _ONE), ("code", 3, _INT32, _ONE))
    span = file.message_type.add(name="Span")
    _add(
        span,
        ("trace_id", 1, _BYTES, _ONE),
        ("span_id", 2, _BYTES, _ONE),
        ("trace_state", 3, _TEXT, _ONE),
        ("parent_span_id", 4, _BYTES, _ONE),
        ("name", 5, _TEXT, _ONE),
        ("kind", 6, _INT32, _ONE),
        ("start_time_unix_nano", 7, _FIXED64, _ONE),
        ("end_time_unix_nano", 8, _FIXED64, _ONE),
        ("attributes", 9, _BYTES, _MANY),
        ("dropped_attributes_count", 10, _UINT32, _ONE),
        ("events", 11, _BYTES, _MANY),
        ("dropped_events_count", 12, _UINT32, _ONE),
        ("links", 13, _BYTES, _MANY),
        ("dropped_links_count", 14, _UINT32, _ONE),
        ("status", 15, _MESSAGE, _ONE),
    )
    span.field[-1].type_name = ".layerline.slim.Status"
    pool = DescriptorPool()
    pool.Add(file)
    return cast("type[SlimSpan]", GetMessageClass(pool.FindMessageTypeByName("layerline.slim.Span")))


def _add(
    message: DescriptorProto,
    *fields: tuple[str, int, FieldDescriptorProto.Type.ValueType, FieldDescriptorProto.Label.ValueType],
) -> None:
    for name, number, kind, label in fields:
        message.field.add(name=name, number=number, type=kind, label=label)


Slim = _span()
