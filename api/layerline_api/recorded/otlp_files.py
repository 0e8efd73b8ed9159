"""OTLP in files, as the OpenTelemetry Collector's file exporter writes them, and as a single JSON document.

* ``format: json``: each line is one ExportTraceServiceRequest, …Metrics… or …Logs….
* ``format: proto``, and JSON with ``compression: zstd``: each message follows its length, four bytes, most significant
  first; a message may be compressed by itself.
* With the feature gate ``exporter.file.nativeCompression`` the file as a whole is compressed.

What a protobuf message holds is not written anywhere: its first item tells. A line or message that cannot be read costs
itself. Source: opentelemetry-collector-contrib, exporter/fileexporter (README.md, file_writer.go); OpenTelemetry
specification, "OTLP File Exporter".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from layerline_api.doors.otlp import DECODERS, Malformed, TooLarge
from layerline_api.doors.otlp.envelope import groups
from layerline_api.doors.otlp.json_form import to_protobuf
from layerline_api.doors.otlp.masking import BY_DEFAULT
from layerline_api.doors.otlp.problems import Budget, Rejections
from layerline_api.recorded.content import content, decompressed
from layerline_api.recorded.elements import elements
from layerline_api.recorded.gathered import Gathered, Place, Unreadable

#: The list that a request in JSON consists of, and its signal.
SIGNALS = {"resourceSpans": "traces", "resourceMetrics": "metrics", "resourceLogs": "logs"}
_ITEMS = {
    "traces": ("scopeSpans", "spans"),
    "metrics": ("scopeMetrics", "metrics"),
    "logs": ("scopeLogs", "logRecords"),
}
#: No line and no message is longer than this, in bytes.
MESSAGE_LIMIT_BYTES = 64 * 2**20
#: Of a request in JSON that is too large for the decoder, this many items are decoded at a time.
_TOGETHER = 100
_RESOURCE_GROUP = re.compile(r'\{\s*"resource"\s*:')
_PREFIX_BYTES = 4


def read(path: Path, begin: Place, gathered: Gathered) -> Iterator[Place]:
    """The rows of the file from ``begin`` on, message by message. ``Unreadable`` when it holds no OTLP."""
    with content(path) as stream:
        first = stream.read(2**20)
    if not first:
        return
    if first.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        yield from _messages(path, begin, gathered)
    elif _is_lines(path):
        yield from _lines(path, begin, gathered)
    else:
        yield from _document(path, begin, gathered)


# ---- JSON


def _is_lines(path: Path) -> bool:
    """Whether one of the first lines is a request by itself; else the file is one document over several lines."""
    with content(path) as stream:
        for _ in range(20):
            line = stream.readline(MESSAGE_LIMIT_BYTES)
            if not line:
                return False
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                return True
    return False


def _lines(path: Path, begin: Place, gathered: Gathered) -> Iterator[Place]:
    offset, number = begin.offset, begin.line
    with content(path, offset) as stream:
        while line := stream.readline(MESSAGE_LIMIT_BYTES):
            where = f"line {number}"
            if len(line) == MESSAGE_LIMIT_BYTES:
                gathered.reject(where, f"it is longer than {MESSAGE_LIMIT_BYTES:,} bytes")
                while not line.endswith(b"\n") and (rest := stream.readline(MESSAGE_LIMIT_BYTES)):
                    offset, line = offset + len(line), rest
            elif line.strip():
                _request(line, where, gathered)
            offset, number = offset + len(line), number + 1
            yield Place(offset, number)


def _document(path: Path, begin: Place, gathered: Gathered) -> Iterator[Place]:
    with content(path, begin.offset) as stream:
        for element in elements(stream, begin, SIGNALS, _RESOURCE_GROUP):
            where = f"line {element.line}"
            if element.problem is not None:
                gathered.reject(where, f"an element of {element.inside} could not be read: {element.problem}")
            else:
                _decode_json({element.inside: [element.value]}, where, gathered)
            yield element.after


def _request(line: bytes, where: str, gathered: Gathered) -> None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as problem:
        gathered.reject(where, f"it is not JSON: {problem}"[:300])
        return
    if not isinstance(document, dict) or not SIGNALS.keys() & document.keys():
        found = ", ".join(list(document)[:3]) if isinstance(document, dict) else type(document).__name__
        expected = ", ".join(SIGNALS)
        gathered.reject(where, f"expected an object with {expected}; found {found or 'an empty one'}")
        return
    _decode_json(document, where, gathered)


def _decode_json(document: dict[str, Any], where: str, gathered: Gathered, whole: bool = True) -> None:
    for name, signal in SIGNALS.items():
        if name not in document:
            continue
        rejections = Rejections()
        try:
            body = to_protobuf(DECODERS[signal].request, json.dumps({name: document[name]}).encode(), rejections)
        except TooLarge as problem:
            parts = _parts(document[name], *_ITEMS[signal]) if whole else []
            if not parts:
                gathered.reject(where, _said(problem))
            for part in parts:
                _decode_json({name: [part]}, where, gathered, whole=False)
        except Malformed as problem:
            gathered.reject(where, _said(problem))
        else:
            _decode(signal, body, where, gathered, rejections)


def _parts(found: Any, scopes: str, items: str) -> list[dict[str, Any]]:
    """A few items at a time, each with their resource (which is all of the rest that the decoder keeps)."""
    try:
        return [
            {"resource": group.get("resource", {}), scopes: [{items: scope[items][begin : begin + _TOGETHER]}]}
            for group in found
            for scope in group[scopes]
            for begin in range(0, len(scope[items]), _TOGETHER)
        ]
    except (LookupError, TypeError, AttributeError):
        return []  # it is not even formed like one


# ---- protobuf, and JSON behind lengths


def _messages(path: Path, begin: Place, gathered: Gathered) -> Iterator[Place]:
    offset, number = begin.offset, begin.line
    with content(path, offset) as stream:
        while prefix := stream.read(_PREFIX_BYTES):
            where = f"message {number} at byte {offset:,}"
            length = int.from_bytes(prefix, "big")
            if len(prefix) == _PREFIX_BYTES and length > MESSAGE_LIMIT_BYTES:
                if number == 1:
                    raise Unreadable(
                        "expected OTLP: JSON, or messages that each follow their length in four bytes; "
                        f"found neither (the file begins with {prefix!r})"
                    )
                gathered.reject(
                    where, f"its length is {length:,} bytes, which cannot be; nothing after it could be read"
                )
                return
            body = _all(stream, length)
            if len(prefix) < _PREFIX_BYTES or len(body) < length:
                gathered.reject(where, f"the file ends inside it: {length:,} bytes expected, {len(body):,} found")
                return
            _message(body, where, gathered)
            offset, number = offset + _PREFIX_BYTES + length, number + 1
            yield Place(offset, number)


def _all(stream: BinaryIO, length: int) -> bytes:
    parts = []
    while length and (part := stream.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _message(body: bytes, where: str, gathered: Gathered) -> None:
    try:
        body = decompressed(body, MESSAGE_LIMIT_BYTES)
    except (OSError, ValueError) as problem:
        gathered.reject(where, f"it cannot be decompressed: {problem}")
        return
    if body[:1] == b"{":
        _request(body, where, gathered)
        return
    try:
        signal = _signal_of(body)
    except (Malformed, TooLarge) as problem:
        gathered.reject(where, _said(problem))
        return
    if signal == "":
        gathered.reject(where, "its items are neither spans nor metrics nor log records")
    elif signal is not None:
        _decode(signal, body, where, gathered)


def _signal_of(body: bytes) -> str | None:
    """The signal whose items these are, ``""`` for none; None where there is no item. ``Malformed``, ``TooLarge``.

    The three requests differ in their items only: those of another kind have other fields under the same numbers, which
    the generated classes take for unknown ones or refuse.
    """
    for _, items in groups(body, Budget()):
        for raw in items:
            if not raw:
                continue
            if (record := _parsed(LogRecord, raw)) and (record.time_unix_nano or record.observed_time_unix_nano):
                return "logs"
            if (span := _parsed(Span, raw)) and (span.start_time_unix_nano or span.end_time_unix_nano):
                return "traces"
            if (metric := _parsed(Metric, raw)) and metric.WhichOneof("data"):
                return "metrics"
            return ""
    return None


def _parsed(message: Any, raw: bytes) -> Any:
    try:
        return message.FromString(raw)
    except DecodeError:
        return None


def _said(problem: Exception) -> str:
    """The decoders speak of a request's body, which here is a line or a message."""
    return str(problem).replace("the JSON body", "it").replace("the body", "it")


def _decode(signal: str, body: bytes, where: str, gathered: Gathered, rejections: Rejections | None = None) -> None:
    try:
        batch, rejections = DECODERS[signal].rows(body, gathered.bounds, rejections, BY_DEFAULT)
    except (Malformed, TooLarge) as problem:
        gathered.reject(where, _said(problem))
        return
    if rejections.count:
        gathered.reject(where, rejections.message(), rejections.count)
    gathered.add(batch)
