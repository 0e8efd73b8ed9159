"""What nobody should send: OTLP that is valid and absurd, bodies that are nearly OTLP, requests that are nearly HTTP.

Everything is drawn from one seed. Names and ids come from few, so that what was sent meets what was sent before: ids
shared and repeated, several senders of one container, parents in rings.
"""

from __future__ import annotations

import gzip
import json
import random
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from layerline.attributes import SPAN_FIGURES
from layerline.signals import SIGNALS

SECOND = 10**9
INTEGERS = (0, 1, -1, 5, 2**31, 2**53, 10**18, 10**19, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
DOUBLES = (0.0, -0.0, 1.5, -5.0, 1e15, 1e19, 1e300, 1.7e308, 5e-324, float("nan"), float("inf"), -float("inf"))
TEXTS = (
    "", "a", "\0", "\u202eevil\x1b[31m", "x" * 5_000, "'; DROP TABLE span; --", "<script>alert(1)</script>", "0-3,5",
    "9999-0", "127.0.0.1", "[::1]:99999", "nan", "1e400", "-5", "[1,2", "\U0001f600", "²", "../../etc/passwd",
    "%s%n{0}", "/docker/" + "ab" * 32, "ot=th:0", "ot=th:fffffffffffffff", "," * 50, "a:b", "GET /{id}",
)  # fmt: skip
NAMES = (
    "service.name", "service.instance.id", "container.id", "container.name", "container.image.tags", "host.name",
    "host.id", "k8s.pod.uid", "process.pid", "thread.id", "server.address", "server.port", "db.system.name",
    "db.query.text", "http.request.method", "http.response.status_code", "exception.type", "event.name", "id", "image",
    "cpu.mode", "device", "layerline.boot_id", "layerline.cpus", "layerline.slices", "layerline.account",
    "layerline.samples", "layerline.container.parent", "layerline.version", "", *SPAN_FIGURES,
)  # fmt: skip
METRICS = (
    *(signal.name for signal in (SIGNALS.values() if isinstance(SIGNALS, dict) else SIGNALS)),
    "container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "node_cpu_seconds_total",
    "container.cpu.usage.total", "system.cpu.time", "k8s.pod.cpu.time", "x",
)  # fmt: skip
SERVICES, CONTAINERS, HOSTS = ("a", "b", "c"), tuple(f"{number:x}" * 64 for number in (10, 11, 12)), ("m1", "m2")
REQUESTS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest, "metrics": ExportMetricsServiceRequest, "logs": ExportLogsServiceRequest
}  # fmt: skip
UNSIGNED = {FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64}
SIGNED = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SFIXED64, FieldDescriptor.TYPE_SINT64}
SIGNED_32 = {
    FieldDescriptor.TYPE_ENUM,
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_SFIXED32,
    FieldDescriptor.TYPE_SINT32,
}


class Hostile:
    """Draws what to send, and what to ask about it."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self.traces = [draw.randbytes(16) for _ in range(40)]
        self._spans = [draw.randbytes(8) for _ in range(60)]

    # ---- OTLP

    def otlp(self) -> tuple[str, bytes, dict[str, str]]:
        """A signal, a body and its HTTP headers: absurd, broken, or both."""
        draw = self._draw
        signal = draw.choice(["traces", "traces", "metrics", "metrics", "logs"])
        message = {"traces": self._traces, "metrics": self._metrics, "logs": self._logs}[signal]()
        for _ in range(draw.choice([0, 0, 0, 1, 3, 20])):
            self._spoil(message)
        headers = {"Content-Type": "application/x-protobuf"}
        if draw.random() < 0.2:
            body = self._json(message)
            headers["Content-Type"] = draw.choice(["application/json", "application/json; charset=utf-8"])
        else:
            body = message.SerializeToString()
        if draw.random() < 0.3:
            body = self._broken(body)
        if draw.random() < 0.3:
            body, headers["Content-Encoding"] = self._compressed(body)
        if draw.random() < 0.03:
            headers |= self._odd_headers()
        return signal, body, headers

    def _traces(self) -> Message:
        draw, request, now_ns = self._draw, ExportTraceServiceRequest(), time.time_ns()
        some = draw.sample(self.traces, 3) if draw.random() < 0.3 else [draw.randbytes(16) for _ in range(6)]
        self.traces = [*self.traces[-37:], some[0], *some[:2]]
        for _ in range(draw.randint(1, 3)):
            sent = request.resource_spans.add(resource=self._resource())
            for _ in range(draw.choice([1, 4, 12, 30])):
                start_ns = self._near(now_ns)
                span = sent.scope_spans.add().spans.add(
                    trace_id=draw.choice(some), span_id=draw.choice(self._spans), name=draw.choice(["op", "op2", ""]),
                    kind=draw.randrange(6), start_time_unix_nano=start_ns,
                    end_time_unix_nano=min(2**64 - 1, start_ns + draw.choice([0, 1, 10**6, 10**8, 10**9, 10**13])),
                )  # fmt: skip
                if draw.random() < 0.6:
                    span.span_id = draw.randbytes(8)
                    self._spans[draw.randrange(len(self._spans))] = span.span_id
                if draw.random() < 0.8:
                    span.parent_span_id = draw.choice([*self._spans, span.span_id])
                if draw.random() < 0.5:
                    self._account(span)
                span.attributes.extend(self._attributes())
                if draw.random() < 0.2:
                    span.status.code = draw.randrange(3)
                    span.events.add(time_unix_nano=start_ns, name="exception", attributes=self._attributes())
                    span.links.add(trace_id=draw.choice(some), span_id=draw.choice(self._spans))
        return request

    def _account(self, span: Any) -> None:
        """What the wrapper would have measured, or could not have."""
        draw = self._draw
        number = lambda: draw.choice([0, 1, 10**6, 10**8, 10**9, 10**9, 2**62, 2**63 - 1, -1])  # noqa: E731
        for name in draw.sample(list(SPAN_FIGURES), draw.randint(0, 8)):
            span.attributes.append(KeyValue(key=name, value=AnyValue(int_value=number())))
        slices = [AnyValue(int_value=number()) for _ in range(draw.choice([4, 8, 40, 7]))]
        account = draw.choice(["thread", "thread", "task", "none", "x"])
        span.attributes.append(KeyValue(key="layerline.account", value=AnyValue(string_value=account)))
        span.attributes.append(KeyValue(key="thread.id", value=AnyValue(int_value=draw.randint(1, 3))))
        value = AnyValue()
        value.array_value.values.extend(slices)
        span.attributes.append(KeyValue(key="layerline.slices", value=value))

    def _metrics(self) -> Message:
        draw, request, now_ns = self._draw, ExportMetricsServiceRequest(), time.time_ns()
        for _ in range(draw.randint(1, 2)):
            sent = request.resource_metrics.add(resource=self._resource())
            for _ in range(draw.choice([1, 10, 30])):
                metric = sent.scope_metrics.add().metrics.add(
                    name=draw.choice(METRICS), unit=draw.choice(["", "s", "ns", "By", "1", "%", "{x}"])
                )
                kind = draw.choice(["gauge", "sum", "sum", "sum", "histogram", "exponential_histogram", "summary"])
                data = getattr(metric, kind)
                if hasattr(data, "aggregation_temporality"):
                    data.aggregation_temporality = draw.randrange(4)
                if kind == "sum":
                    data.is_monotonic = draw.random() < 0.8
                for back in range(draw.choice([1, 5, 20])):
                    point = data.data_points.add(
                        time_unix_nano=self._near(now_ns) if draw.random() < 0.1 else now_ns - back * SECOND,
                        start_time_unix_nano=draw.choice([0, 1, now_ns - 10 * SECOND, now_ns, self._near(now_ns)]),
                        attributes=self._attributes(),
                    )
                    if kind in ("gauge", "sum") and draw.random() < 0.5:
                        point.as_double = draw.choice([*DOUBLES, 3.0, 1e9, 1e12])
                    elif kind in ("gauge", "sum"):
                        point.as_int = draw.choice([0, 5, 10**9, 2**62, 2**63 - 1, -(2**63)])
        return request

    def _logs(self) -> Message:
        draw, request, now_ns = self._draw, ExportLogsServiceRequest(), time.time_ns()
        sent = request.resource_logs.add(resource=self._resource())
        for _ in range(draw.choice([1, 5, 40])):
            record = sent.scope_logs.add().log_records.add(
                time_unix_nano=self._near(now_ns), observed_time_unix_nano=self._near(now_ns),
                severity_number=draw.randrange(25), event_name=draw.choice(["", "deploy", "container.die", *TEXTS]),
                attributes=self._attributes(),
            )  # fmt: skip
            record.body.CopyFrom(self._value())
            if draw.random() < 0.5:
                record.trace_id, record.span_id = draw.choice(self.traces), draw.choice(self._spans)
        return request

    def _resource(self) -> Resource:
        draw = self._draw
        known = {
            "service.name": draw.choice(SERVICES), "layerline.boot_id": draw.choice(HOSTS),
            "container.id": draw.choice(CONTAINERS), "host.name": draw.choice(HOSTS), "container.name": "c",
        }  # fmt: skip
        kept = [key for key in known if draw.random() < 0.7]
        attributes = [KeyValue(key=key, value=AnyValue(string_value=known[key])) for key in kept]
        return Resource(attributes=[*attributes, *(self._attributes() if draw.random() < 0.2 else [])])

    def _attributes(self) -> list[KeyValue]:
        draw = self._draw
        many = draw.choice([0, 0, 1, 3]) if draw.random() < 0.9995 else 2_000
        keys = [draw.choice(NAMES) if draw.random() < 0.8 else draw.choice(TEXTS) for _ in range(many)]
        return [KeyValue(key=key, value=self._value()) for key in keys]

    def _value(self, depth: int = 0) -> AnyValue:
        draw, value = self._draw, AnyValue()
        match draw.randrange(8 if depth < 6 else 5):
            case 0 | 1:
                value.string_value = draw.choice(TEXTS)
            case 2:
                value.int_value = draw.choice([0, 1, -1, 2**62, 2**63 - 1, -(2**63)])
            case 3:
                value.double_value = draw.choice(DOUBLES)
            case 4:
                value.bytes_value = draw.randbytes(draw.choice([0, 3, 300]))
            case 5:
                value.bool_value = True
            case 6:
                value.array_value.values.extend(self._value(depth + 1) for _ in range(draw.choice([0, 1, 4])))
            case 7:
                value.kvlist_value.values.extend(
                    KeyValue(key=draw.choice(NAMES), value=self._value(depth + 1)) for _ in range(draw.randint(0, 3))
                )
        return value

    def _near(self, now_ns: int) -> int:
        """A time: mostly of the last seconds, else of another age."""
        draw = self._draw
        if draw.random() < 0.9:
            return now_ns - draw.randrange(20 * SECOND)
        year = 365 * 86_400 * SECOND
        return draw.choice(
            [0, 1, 2**63 - 1, 2**63, 2**64 - 1, now_ns + year, now_ns - year, now_ns - 18 * 3600 * SECOND]
        )

    def _spoil(self, message: Message) -> None:
        """One field somewhere in this message gets an odd value of its own type."""
        draw = self._draw
        while True:
            field = draw.choice(message.DESCRIPTOR.fields)
            value = getattr(message, field.name)
            if field.message_type is None:
                break
            if field.is_repeated:
                if not value:
                    return
                message = draw.choice(value)
            elif message.HasField(field.name):
                message = value
            else:
                return
        if field.is_repeated:
            return
        odd: Any
        if field.type in UNSIGNED:
            odd = draw.choice([number for number in INTEGERS if 0 <= number < 2**64])
        elif field.type in SIGNED:
            odd = draw.choice([number for number in INTEGERS if -(2**63) <= number < 2**63])
        elif field.type == FieldDescriptor.TYPE_DOUBLE:
            odd = draw.choice(DOUBLES)
        elif field.type == FieldDescriptor.TYPE_STRING:
            odd = draw.choice(TEXTS)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            odd = draw.randbytes(draw.choice([0, 1, 7, 8, 15, 16, 17, 300]))
        elif field.type == FieldDescriptor.TYPE_BOOL:
            odd = draw.random() < 0.5
        elif field.type in SIGNED_32:
            odd = draw.choice([0, 1, -1, 99, 2**31 - 1, -(2**31)])
        else:
            odd = draw.choice([0, 1, 2**31, 2**32 - 1])
        setattr(message, field.name, odd)

    def _json(self, message: Message) -> bytes:
        """The message as JSON, with some of its leaves replaced by what JSON can say and protobuf cannot."""
        draw = self._draw
        odd = [
            None,
            True,
            -1,
            1.5,
            1e400,
            float("nan"),
            "\ud800",
            "a\udfffb",
            "1" * 30,
            2**70,
            "NaN",
            "1e5",
            "0x5",
            [],
            {},
        ]
        how_often = draw.choice([0, 0, 0.02, 0.2])

        def changed(value: Any) -> Any:
            if draw.random() < how_often:
                return draw.choice(odd)
            if isinstance(value, dict):
                return {key: changed(item) for key, item in value.items()}
            return [changed(item) for item in value] if isinstance(value, list) else value

        return json.dumps(changed(MessageToDict(message))).encode()

    def _broken(self, body: bytes) -> bytes:
        """A few bytes flipped, missing, put in, or cut off: lengths and varints with them."""
        draw, broken = self._draw, bytearray(body)
        for _ in range(draw.choice([1, 1, 2, 8])):
            at = draw.randrange(len(broken) + 1)
            match draw.randrange(5):
                case 0:
                    broken[at : at + 1] = draw.randbytes(1)
                case 1:
                    del broken[at : at + draw.randint(1, 9)]
                case 2:
                    broken[at:at] = draw.randbytes(draw.randint(1, 9))
                case 3:
                    broken[at:at] = b"\xff" * draw.randint(1, 11)
                case _:
                    del broken[at:]
        return bytes(broken)

    def _compressed(self, body: bytes) -> tuple[bytes, str]:
        draw = self._draw
        packed = gzip.compress(body, 1)
        return draw.choice(
            [
                (packed, "gzip"), (packed, "gzip"), (packed, "GZIP"), (packed[: len(packed) // 2], "gzip"),
                (packed + b"garbage", "gzip"), (gzip.compress(b"") * 10_000 + packed, "gzip"), (body, "gzip"),
                (packed + packed, "gzip"), (gzip.compress(packed), "gzip, gzip"), (zlib.compress(body), "deflate"),
                (self._broken(packed), "gzip"), (body, "identity"), (body, "br"), (_BOMB, "gzip"),
            ]
        )  # fmt: skip

    def _odd_headers(self) -> dict[str, str]:
        return self._draw.choice(
            [
                {"Content-Type": "text/plain"}, {"Content-Type": ""}, {"Content-Type": "x" * 3_000},
                {"Host": "evil.example"}, {"Host": ""}, {"Authorization": "Bearer no"}, {"Authorization": "\xff"},
                {"X-Forwarded-For": "1.2.3.4"}, {"Expect": "100-continue"}, {"Accept": "nothing"},
                {"Transfer-Encoding": "gzip"}, {"Cookie": "a=" + "b" * 4_000}, {"Range": "bytes=0-1"},
            ]
        )  # fmt: skip

    # ---- questions

    def question(self, paths: dict[str, Any]) -> tuple[str, str, bytes | None]:
        """Method, address and body of a question about what was stored, or nearly, to one of these declared paths."""
        draw = self._draw
        path = draw.choice([path for path in paths if not path.startswith("/v1/")])
        method = draw.choice(list(paths[path]))
        declared = paths[path][method].get("parameters", [])
        query = {}
        for parameter in declared:
            name, value = parameter["name"], self._parameter(parameter["name"])
            if parameter["in"] == "path":
                path = path.replace("{" + name + "}", urllib.parse.quote(value, safe="") or "x")
            elif draw.random() < 0.4:
                query[name] = value
        body = None
        if method in ("post", "put", "patch"):
            body = json.dumps(self._body(path)).encode()
        address = path + ("?" + urllib.parse.urlencode(query) if query else "")
        return method.upper(), address, body

    def _parameter(self, name: str) -> str:
        draw, now_s = self._draw, time.time()
        if draw.random() < 0.1:
            return draw.choice([*TEXTS[:2], *TEXTS[3:], "a", "-1", "1e400"])
        moment = lambda back: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s - back))  # noqa: E731
        known: dict[str, Callable[[], str]] = {
            "trace_id": lambda: draw.choice(self.traces).hex(),
            "span_id": lambda: draw.choice(self._spans).hex(),
            "service": lambda: draw.choice(SERVICES),
            "operation": lambda: draw.choice(["op", "op2"]),
            "tag": lambda: draw.choice(["service:a", f"container:{CONTAINERS[0]}", "image:*", "-host:m1", "x:"]),
            "q": lambda: draw.choice(
                ["container:* memory.working_set > 1.5 * avg(memory.working_set) over 15m", "service:a", "host:m1",
                 "container:* cpu.usage > 0 over 1m"]
            ),
            "since": lambda: draw.choice(["1m", "15m", "1h", "72h", "0s", "100d"]),
            "from": lambda: moment(draw.choice([60, 900, 3600, 10**6, 10**9])),
            "to": lambda: moment(draw.choice([0, 10, 900, -3600])),
            "limit": lambda: draw.choice(["1", "50", "1000", "1001", "0"]),
            "order": lambda: draw.choice(["excess", "duration", "start", "x"]),
            "min_duration": lambda: draw.choice(["0ms", "1ms", "400ms", "1h"]),
            "step": lambda: draw.choice(["1s", "10s", "1ms", "1h"]),
        }  # fmt: skip
        return known.get(
            name, lambda: draw.choice(["a", "1", "15m", "true", "start", draw.choice(self.traces).hex()])
        )()

    def _body(self, path: str) -> Any:
        draw = self._draw
        if draw.random() < 0.2:
            return draw.choice([None, [], {}, {"sql": 5}, {"a": [[[[]]]]}, "x", 1e300, {"query": "\ud800"}])
        if path == "/api/v1/sql":
            return {"sql": draw.choice(_SQL if draw.random() < 0.9 else _COSTLY_SQL)}
        if path == "/api/v1/monitors/preview":
            return {"query": self._parameter("q"), "since": self._parameter("since"), "every": "1m"}
        if path == "/api/v1/events":
            return {"body": draw.choice(TEXTS), "service": draw.choice(SERVICES)}
        if path == "/api/v1/slos":
            return {"service": draw.choice(SERVICES), "objective": draw.choice([0.5, 0.99, 1.0, 0, 5])}
        return {"for": "2h", "query": draw.choice(TEXTS)}


_SQL = (
    "SELECT count(*) FROM spans", "FROM points ORDER BY value DESC LIMIT 50", "FROM events", "FROM requests LIMIT 500",
    "SELECT service, sum(lost_ns) FROM parts GROUP BY ALL", "SELECT 1/0, 'nan'::DOUBLE", "SELECT", "DROP TABLE span",
)  # fmt: skip
_COSTLY_SQL = (
    "SELECT count(*) FROM spans a, spans b, spans c", "SELECT * FROM range(10000000)", "SELECT repeat('x', 100000000)",
    "SELECT replace(repeat('a', 10000000), 'a', repeat('b', 100))",
    "SELECT levenshtein(repeat('a', 100000), repeat('b', 100000))",
)  # fmt: skip
#: 80 MiB of nothing in 80 KiB.
_BOMB = gzip.compress(bytes(80 * 2**20), 9)


def odd_requests() -> Iterator[bytes]:
    """What comes over a connection and is nearly HTTP."""
    post = b"POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer t\r\n"
    protobuf = b"Content-Type: application/x-protobuf\r\n"
    yield b""
    yield b"\r\n\r\n"
    yield b"GET / HTTP/9.9\r\n\r\n"
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    yield b"GET " + b"/" + b"a" * 300_000 + b" HTTP/1.1\r\n\r\n"
    yield b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(20_000)) + b"\r\n"
    yield b"GET /\x00\xff%00%ff%zz?%=&&&a=%ff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    yield post + protobuf + b"Content-Length: -5\r\n\r\n"
    yield post + protobuf + b"Content-Length: 99999999999999999999\r\n\r\n"
    yield post + protobuf + b"Content-Length: 5, 6\r\n\r\nabcde"
    yield post + protobuf + b"Content-Length: 1000\r\n\r\nshort"
    yield post + protobuf + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield post + protobuf + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nnot a length\r\n"
    yield post + protobuf + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"
    yield post + protobuf + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n\x00\r\n" * 5_000 + b"0\r\n\r\n"
    yield post + b"Content-Length: 0\r\n\r\n"
    yield b"DELETE /v1/traces HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer t\r\n\r\n"
    yield b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer t\r\n\r\n"
    yield b"GET http://evil.example/api/v1/requests HTTP/1.1\r\nHost: evil.example\r\n\r\n"
