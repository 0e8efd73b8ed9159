"""The skeleton of a protobuf message, read without building it: which field lies where.

Source: protobuf.dev/programming-guides/encoding. Only what an envelope needs: fields of one wire type are given out,
the others are skipped. Own code, because parsers build everything before anyone can count it.
"""

from __future__ import annotations

from collections.abc import Iterator

from layerline_api.doors.otlp.problems import Malformed

_VARINT, FIXED64, LENGTH, _FIXED32 = 0, 1, 2, 5


def fields(body: bytes, begin: int, end: int, wanted: int = LENGTH) -> Iterator[tuple[int, int, int]]:
    """``(number, begin, end)`` of every field of that wire type (``LENGTH`` or ``FIXED64``) of the message at
    ``body[begin:end]``. ``Malformed``.
    """
    at = begin
    while at < end:
        tag, at = _varint(body, at, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise Malformed("the body is not an OTLP request in protobuf: a field has the number 0")
        if kind == LENGTH:
            length, at = _varint(body, at, end)
            if length > end - at:
                raise Malformed("the body is not an OTLP request in protobuf: it ends inside a field")
            if wanted == LENGTH:
                yield number, at, at + length
            at += length
        elif kind == _VARINT:
            _, at = _varint(body, at, end)
        elif kind == FIXED64:
            if wanted == FIXED64 and at + 8 <= end:
                yield number, at, at + 8
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            raise Malformed(f"the body is not an OTLP request in protobuf: there is no wire type {kind} in it")
    if at > end:
        raise Malformed("the body is not an OTLP request in protobuf: it ends inside a number")


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at ``at`` and where it ends. At most ten bytes, as 64 bits take."""
    if at < end and (byte := body[at]) < 128:  # nearly always
        return byte, at + 1
    number = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise Malformed("the body is not an OTLP request in protobuf: it ends inside a number")
        byte = body[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise Malformed("the body is not an OTLP request in protobuf: a number is longer than 64 bits")
