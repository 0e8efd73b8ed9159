"""A request in JSON of which some items cannot be read: the others are.

Only where a request as a whole was refused is it opened item by item; that costs about as much again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from layerline_api.doors.otlp.problems import Rejections

#: What ``ParseDict`` raises for JSON of another shape or beyond a field's range.
UNREADABLE = (ParseError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)

#: Descriptors of fields and messages. The stubs know two kinds of each, one of which is never there.
Field = Any
Shape = Any

_GROUPS, _SCOPES, _ITEMS = 1, 2, 2  # field numbers (envelope.py)
_POINTS = "data_points"


def readable_items(request: type[Message], document: dict[str, Any], rejections: Rejections) -> bytes:
    """The request in protobuf with those items that can be read; empty when there are none. Others are counted."""
    groups: Field = request.DESCRIPTOR.fields_by_number[_GROUPS]
    scopes = groups.message_type.fields_by_number[_SCOPES]
    items = scopes.message_type.fields_by_number[_ITEMS]
    answer, kept = request(), False
    for group in _listed(document, groups):
        try:
            whose = _parsed(_without(group, scopes), groups.message_type)
        except UNREADABLE as problem:
            count = sum(len(_listed(scope, items)) for scope in _listed(group, scopes))
            rejections.add(f"an element of {groups.json_name}", f"it cannot be read: {problem}"[:200], max(1, count))
            continue
        scope = getattr(whose, scopes.name).add()
        for item in (item for found in _listed(group, scopes) for item in _listed(found, items)):
            for readable in _readable(item, items, rejections):
                getattr(scope, items.name).append(readable)
                kept = True
        getattr(answer, groups.name).append(whose)
    return answer.SerializeToString() if kept else b""


def _readable(item: Any, field: Field, rejections: Rejections) -> Iterator[Message]:
    """The item; of a metric, as much of it as can be read."""
    try:
        yield _parsed(item, field.message_type)
        return
    except UNREADABLE as problem:
        reason = f"it cannot be read: {problem}"[:200]
    name = f"{field.message_type.name.lower()} {str(item.get('name', ''))[:80]!r}" if isinstance(item, dict) else "item"
    for data in field.message_type.fields if isinstance(item, dict) else ():
        found = _value(item, data)
        if not isinstance(found, dict) or data.message_type is None or _POINTS not in data.message_type.fields_by_name:
            continue
        points = data.message_type.fields_by_name[_POINTS]
        good = []
        for point in _listed(found, points):
            try:
                _parsed(point, points.message_type)
                good.append(point)
            except UNREADABLE as problem:
                rejections.add(f"a point of {name}", f"it cannot be read: {problem}"[:200])
        try:
            yield _parsed(
                _without(item, data) | {data.json_name: _without(found, points) | {points.json_name: good}},
                field.message_type,
            )
        except UNREADABLE:
            rejections.add(name, reason, max(1, len(good)))
        return
    rejections.add(name, reason)


def _parsed(found: Any, descriptor: Shape) -> Message:
    message: Message = ParseDict(found, GetMessageClass(descriptor)(), ignore_unknown_fields=True)
    return message


def _value(found: dict[str, Any], field: Field) -> Any:
    """A field's value, by either name that protobuf's JSON mapping allows."""
    return found.get(field.json_name, found.get(field.name))


def _listed(found: Any, field: Field) -> list[Any]:
    value = _value(found, field) if isinstance(found, dict) else None
    return value if isinstance(value, list) else []


def _without(found: Any, field: Field) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise TypeError(f"expected an object, found {type(found).__name__}")
    return {name: value for name, value in found.items() if name not in (field.json_name, field.name)}
