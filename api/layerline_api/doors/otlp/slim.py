"""Spans and metrics in protobuf of which only the outer level is read: attributes, events and links stay bytes.

Most attributes repeat from span to span and from minute to minute, so their bytes are looked up instead of being parsed
again. The messages are wire-compatible with OpenTelemetry's own, and read by the same parser; fields that are not named
here are skipped.

Source: opentelemetry-proto 1.x, ``trace/v1/trace.proto``, ``Span`` and ``Status``; ``metrics/v1/metrics.proto``,
``Metric``, ``Gauge``, ``Sum`` and ``NumberDataPoint``.
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
_SFIXED64, _DOUBLE = FieldDescriptorProto.TYPE_SFIXED64, FieldDescriptorProto.TYPE_DOUBLE
_BOOL = FieldDescriptorProto.TYPE_BOOL
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


class SlimPoint(Message):
    """One point of a gauge or a sum; its attributes are not yet parsed."""

    attributes: Sequence[bytes]
    start_time_unix_nano: int
    time_unix_nano: int
    as_double: float
    as_int: int
    flags: int


class SlimGauge(Message):
    """Points of a level."""

    data_points: Sequence[SlimPoint]


class SlimSum(SlimGauge):
    """Points of a counter."""

    aggregation_temporality: int
    is_monotonic: bool


class SlimMetric(Message):
    """One metric. ``WhichOneof("data")`` knows all five kinds; only gauges and sums are read here."""

    name: str
    unit: str
    gauge: SlimGauge
    sum: SlimSum


def _classes() -> tuple[type[SlimSpan], type[SlimMetric]]:
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
    point = file.message_type.add(name="Point")
    _add(
        point,
        ("start_time_unix_nano", 2, _FIXED64, _ONE),
        ("time_unix_nano", 3, _FIXED64, _ONE),
        ("attributes", 7, _BYTES, _MANY),
        ("flags", 8, _UINT32, _ONE),
        ("as_double", 4, _DOUBLE, _ONE),
        ("as_int", 6, _SFIXED64, _ONE),
    )
    _one_of(point, "value", 2)
    for name in ("Gauge", "Sum"):
        _add(file.message_type.add(name=name), ("data_points", 1, _MESSAGE, _MANY))
        file.message_type[-1].field[0].type_name = ".layerline.slim.Point"
    _add(file.message_type[-1], ("aggregation_temporality", 2, _INT32, _ONE), ("is_monotonic", 3, _BOOL, _ONE))
    metric = file.message_type.add(name="Metric")
    _add(
        metric,
        ("name", 1, _TEXT, _ONE),
        ("unit", 3, _TEXT, _ONE),
        ("gauge", 5, _MESSAGE, _ONE),
        ("sum", 7, _MESSAGE, _ONE),
        ("histogram", 9, _BYTES, _ONE),
        ("exponential_histogram", 10, _BYTES, _ONE),
        ("summary", 11, _BYTES, _ONE),
    )
    metric.field[2].type_name, metric.field[3].type_name = ".layerline.slim.Gauge", ".layerline.slim.Sum"
    _one_of(metric, "data", 5)
    pool = DescriptorPool()
    pool.Add(file)
    slim_span, slim_metric = (
        GetMessageClass(pool.FindMessageTypeByName(f"layerline.slim.{name}")) for name in ("Span", "Metric")
    )
    return cast("type[SlimSpan]", slim_span), cast("type[SlimMetric]", slim_metric)


def _one_of(message: DescriptorProto, name: str, last: int) -> None:
    """Of its last fields at most one is set."""
    message.oneof_decl.add(name=name)
    for field in message.field[-last:]:
        field.oneof_index = len(message.oneof_decl) - 1


def _add(
    message: DescriptorProto,
    *fields: tuple[str, int, FieldDescriptorProto.Type.ValueType, FieldDescriptorProto.Label.ValueType],
) -> None:
    for name, number, kind, label in fields:
        message.field.add(name=name, number=number, type=kind, label=label)


Slim, SlimNumbers = _classes()
