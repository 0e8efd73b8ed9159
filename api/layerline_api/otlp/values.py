"""OTLP's AnyValue and KeyValue as plain Python values and texts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from layerline_correlator.model import attribute_text


def plain_value(value: AnyValue) -> object:
    """str, bool, int, float, list or dict; bytes as base64 text (as OTLP/JSON has them); None where nothing is set.

    Nesting is bounded by the protobuf parser (100 levels).
    """
    which = value.WhichOneof("value")
    if which == "array_value":
        return [plain_value(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return {item.key: plain_value(item.value) for item in value.kvlist_value.values}
    if which == "bytes_value":
        return b64encode(value.bytes_value).decode()
    if which in ("string_value", "bool_value", "int_value", "double_value"):
        return getattr(value, which)
    return None


def text(value: AnyValue) -> str:
    """The value as the store keeps it. Nearly all attributes are strings, so these take the short way."""
    return value.string_value or attribute_text(plain_value(value))


def texts(attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes by name; of a name that comes twice, the last."""
    return {item.key: text(item.value) for item in attributes}
