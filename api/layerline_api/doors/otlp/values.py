"""OTLP's AnyValue and KeyValue as plain Python values and texts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from layerline_api.doors.otlp.problems import Budget
from layerline_correlator.store.model import attribute_text


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


def text(value: AnyValue, budget: Budget) -> str:
    """The value as the store keeps it. Nearly all attributes are strings, so these take the short way."""
    if value.string_value:
        return value.string_value
    if value.HasField("array_value") or value.HasField("kvlist_value"):
        budget.attributes(value.ByteSize() // 2)  # an element takes at least two bytes
    return attribute_text(plain_value(value))


def texts(attributes: Sequence[KeyValue], budget: Budget) -> dict[str, str]:
    """Attributes by name; of a name that comes twice, the last. ``TooLarge`` beyond the budget."""
    budget.attributes(len(attributes))
    return {item.key: text(item.value, budget) for item in attributes}
