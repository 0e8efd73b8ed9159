"""OTLP/JSON to OTLP/protobuf, so that there is one decoder.

``json_wire.py`` does the work for what is written as nearly everybody writes it, protobuf's own JSON mapping for
everything else (enums as numbers or names, 64-bit integers as strings, unknown fields ignored). OTLP differs from it in
one point: trace and span ids are hex digits, not base64 (OTLP specification, "JSON Protobuf Encoding").
"""

from __future__ import annotations

import json
from base64 import b64encode
from binascii import unhexlify
from contextlib import suppress
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from layerline_api.doors.otlp.json_items import UNREADABLE, readable_items
from layerline_api.doors.otlp.json_text import text_of
from layerline_api.doors.otlp.json_wire import Unusual, to_wire
from layerline_api.doors.otlp.problems import Malformed, Rejections, TooLarge

_IDS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
#: What scopes were called before OTLP 0.15, and their name in a request of today.
_BEFORE = {
    f"instrumentationLibrary{items}": f"scope{items}" for items in ("Spans", "Metrics", "Logs")
} | {f"instrumentation_library_{items}": f"scope_{items}" for items in ("spans", "metrics", "logs")}  # fmt: skip
#: A JSON object becomes some 250 bytes of Python and protobuf and takes 10 µs, however short it is; a span with ten
#: attributes has 23. Counted as the characters ``{`` and ``[``, ``,`` before anything is built: texts hold some too.
OBJECTS_LIMIT, VALUES_LIMIT = 500_000, 2_000_000
#: Texts grow too: a JSON body may be smaller than a protobuf one.
LIMIT_BYTES = 16 * 2**20


def to_protobuf(request: type[Message], body: bytes, rejections: Rejections | None = None) -> bytes:
    """The request in protobuf. ``Malformed`` says where JSON or shape are wrong; ``TooLarge`` beyond the limits.

    With ``rejections``, single items that cannot be read (a start time of -5, say) are counted there and cost
    themselves only, as long as any item can be read.
    """
    if len(body) > LIMIT_BYTES:
        raise TooLarge(f"the JSON body is {len(body):,} bytes long, more than {LIMIT_BYTES:,}: use protobuf")
    if body.count(b"{") + body.count(b"[") > OBJECTS_LIMIT or body.count(b",") > VALUES_LIMIT:
        raise TooLarge(f"the JSON body holds more than {OBJECTS_LIMIT:,} objects and lists: use protobuf")
    try:
        text = text_of(body)
        with suppress(Unusual):
            return to_wire(request.DESCRIPTOR, json.loads(text))
        document = document_of(text)
    except (ValueError, RecursionError) as problem:
        raise Malformed(f"the body is not JSON: {problem}"[:300]) from None
    if not isinstance(document, dict):
        raise Malformed(f"the body is not a JSON object but a {type(document).__name__}")
    try:
        return by_mapping(request, document)
    except UNREADABLE as problem:
        if rejections is not None and (readable := readable_items(request, document, rejections)):
            return readable
        raise Malformed(f"the body is not an OTLP request in JSON: {problem}"[:300]) from None


def document_of(text: str) -> Any:
    """The JSON as protobuf's mapping takes it. ValueError, RecursionError."""
    return json.loads(text, object_hook=_with_base64_ids)


def by_mapping(request: type[Message], document: Any) -> bytes:
    """The request in protobuf, made by protobuf's own mapping, which raises what is ``UNREADABLE``."""
    return ParseDict(document, request(), ignore_unknown_fields=True).SerializeToString()


def _with_base64_ids(found: dict[str, Any]) -> dict[str, Any]:
    """And with scopes under their name of today. Called by the JSON parser for every object, innermost first."""
    for name in _IDS:
        if isinstance(identifier := found.get(name), str):
            found[name] = _base64_of_hex(identifier)
    if _BEFORE.keys() & found.keys():
        for before, now in _BEFORE.items():
            if before in found:
                found.setdefault(now, found.pop(before))
    return found


def _base64_of_hex(identifier: str) -> str:
    """What protobuf's JSON mapping wants. An id that is not hex becomes empty, and its span is rejected alone."""
    try:
        return b64encode(unhexlify(identifier)).decode()
    except ValueError:
        return ""
