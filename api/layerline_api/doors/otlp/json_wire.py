"""OTLP/JSON as nearly everybody writes it, straight to protobuf's bytes: protobuf's own mapping takes far longer.

What is written in another way that the mapping allows (``snake_case``, base64, floats for integers),
or that it does not allow, is ``Unusual``: the mapping itself reads it, and says what is wrong (``json_form.py``). What
is read here is read as it would be there (``tests/api/test_json_wire.py``).

Source: protobuf.dev/programming-guides/encoding and /json; OTLP specification, "JSON Protobuf Encoding".
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from struct import pack
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

#: A value as JSON has it and how deep it lies, to the bytes of the field.
Write = Callable[[Any, int], bytes]

#: Ids are hexadecimal in OTLP.
_IDS = frozenset({"trace_id", "span_id", "parent_span_id"})
#: Protobuf's mapping gives up at 100 levels.
_DEPTH = 50
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

#: Of each kind of integer: its wire type, the smallest, and the first that is too large.
_INTEGERS = {
    FieldDescriptor.TYPE_INT64: (_VARINT, -(2**63), 2**63),
    FieldDescriptor.TYPE_UINT64: (_VARINT, 0, 2**64),
    FieldDescriptor.TYPE_INT32: (_VARINT, -(2**31), 2**31),
    FieldDescriptor.TYPE_UINT32: (_VARINT, 0, 2**32),
    FieldDescriptor.TYPE_ENUM: (_VARINT, -(2**31), 2**31),
    FieldDescriptor.TYPE_FIXED64: (_FIXED64, 0, 2**64),
    FieldDescriptor.TYPE_SFIXED64: (_FIXED64, -(2**63), 2**63),
    FieldDescriptor.TYPE_FIXED32: (_FIXED32, 0, 2**32),
}


class Unusual(ValueError):
    """It is to be read by protobuf's own mapping."""


def to_wire(request: Any, document: Any) -> bytes:
    """The request of that descriptor in protobuf. ``Unusual``."""
    try:
        return _message(request)(document, 0)
    except (ValueError, OverflowError, RecursionError) as problem:
        raise Unusual(str(problem)) from None


@lru_cache(maxsize=256)
def _message(descriptor: Any) -> Write:
    """Writes what is in a message, without its own tag and length."""
    fields: dict[str, Write] = {}
    others = frozenset(field.name for field in descriptor.fields) - {field.json_name for field in descriptor.fields}
    alternatives = [frozenset(field.json_name for field in oneof.fields) for oneof in descriptor.oneofs]

    def write(found: Any, depth: int) -> bytes:
        if not fields:  # not before: a value may hold values
            fields.update((field.json_name, _field(field)) for field in descriptor.fields)
        if type(found) is not dict or depth > _DEPTH:
            raise Unusual(descriptor.name)
        if len(found) > 1 and any(len(names & found.keys()) > 1 for names in alternatives):
            raise Unusual(descriptor.name)
        parts = []
        for name, value in found.items():
            if (field := fields.get(name)) is not None:
                parts.append(field(value, depth + 1))
            elif name in others or name[:15] == "instrumentation" or name[:1] in ("[", "@"):
                raise Unusual(name)
        return b"".join(parts)

    return write


def _field(field: Any) -> Write:
    write = _single(field)
    if not field.is_repeated:
        return write

    def each(found: Any, depth: int) -> bytes:
        if type(found) is not list:
            raise Unusual(field.name)
        return b"".join([write(value, depth) for value in found])

    return each


def _single(field: Any) -> Write:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _inner(field)
    if field.type in _INTEGERS:
        return _integer(field)
    tag = _varint(field.number << 3 | _LENGTH)

    def text(found: Any, depth: int) -> bytes:
        if type(found) is not str:
            raise Unusual(field.name)
        raw = found.encode()
        return tag + (bytes((len(raw),)) if len(raw) < 128 else _varint(len(raw))) + raw

    def identifier(found: Any, depth: int) -> bytes:
        if type(found) is not str:
            raise Unusual(field.name)
        try:
            raw = unhexlify(found)
        except ValueError:
            return b""  # its span is rejected alone
        return tag + _varint(len(raw)) + raw

    def truth(found: Any, depth: int) -> bytes:
        if type(found) is not bool:
            raise Unusual(field.name)
        return _varint(field.number << 3 | _VARINT) + (b"\1" if found else b"\0")

    def number(found: Any, depth: int) -> bytes:
        if (type(found) is not float and type(found) is not int) or not isfinite(found):
            raise Unusual(field.name)
        return _varint(field.number << 3 | _FIXED64) + pack("<d", found)

    def unusual(found: Any, depth: int) -> bytes:
        raise Unusual(field.name)

    if field.type == FieldDescriptor.TYPE_BYTES and field.name in _IDS:
        return identifier
    known = {
        FieldDescriptor.TYPE_STRING: text,
        FieldDescriptor.TYPE_BOOL: truth,
        FieldDescriptor.TYPE_DOUBLE: number,
    }
    return known.get(field.type, unusual)


def _inner(field: Any) -> Write:
    tag, inner = _varint(field.number << 3 | _LENGTH), _message(field.message_type)

    def write(found: Any, depth: int) -> bytes:
        raw = inner(found, depth)
        return tag + (bytes((len(raw),)) if len(raw) < 128 else _varint(len(raw))) + raw

    return write


def _integer(field: Any) -> Write:
    kind, least, beyond = _INTEGERS[field.type]
    tag, is_signed = _varint(field.number << 3 | kind), least < 0
    size = 8 if kind == _FIXED64 else 4
    named = {} if field.enum_type is None else {value.name: value.number for value in field.enum_type.values}

    def write(found: Any, depth: int) -> bytes:
        if type(found) is str and found.isascii() and found.removeprefix("-").isdigit() and len(found) <= 20:
            found = int(found)  # 64 bits are written as texts
        elif type(found) is str:
            found = named.get(found)
        if type(found) is not int or not least <= found < beyond:
            raise Unusual(field.name)
        if kind == _VARINT:
            return tag + _varint(found % 2**64)
        return tag + found.to_bytes(size, "little", signed=is_signed)

    return write


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
