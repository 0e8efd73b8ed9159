"""OTLP's AnyValue and KeyValue as plain Python values and texts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from layerline_api.doors.otlp.limits import ATTRIBUTES, NEEDED, OWN, Counts, cut
from layerline_api.doors.otlp.masking import STATEMENTS, Masking, Rules, statement
from layerline_api.doors.otlp.problems import Budget
from layerline_correlator.store.model import attribute_text

#: What stands for no trace and no span, as ids.
ZERO_TRACE, ZERO_SPAN = bytes(16), bytes(8)


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


def within(attributes: Sequence[KeyValue], counts: Counts) -> Sequence[KeyValue]:
    """The first of them, and beyond the limit those that something else needs."""
    if len(attributes) <= ATTRIBUTES:
        return attributes
    kept = [
        item
        for place, item in enumerate(attributes)
        if place < ATTRIBUTES or item.key in NEEDED or item.key.startswith(OWN)
    ][: 2 * ATTRIBUTES]
    counts.attributes += len(attributes) - len(kept)
    return kept


def kept(
    attributes: Sequence[KeyValue], rules: Rules, masking: Masking, budget: Budget, counts: Counts
) -> dict[str, str]:
    """Attributes by name as they are stored: within the limits, and without what may be a secret. ``TooLarge``.

    Texts about an exception are free text, and masked as such.
    """
    budget.attributes(len(attributes))
    found: dict[str, str] = {}
    for item in within(attributes, counts):
        name = item.key
        content: str | None = text(item.value, budget)
        if (rule := rules[name]) is not None:
            content = statement(content, "") if name in STATEMENTS else rule(content)
        if content is None:
            continue
        content, shortened = cut(content, name)
        counts.shortened += shortened
        if name.startswith("exception."):
            content = masking.text(content)
        found[name] = content
    return found
