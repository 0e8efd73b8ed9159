"""What decoding costs: microseconds per span. Run: ``python tests/api/bench_decode.py``."""

from __future__ import annotations

import json
import time

from api_fake import otlp_json
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from layerline.attributes import SPAN_FIGURES
from layerline_api.doors.otlp import decode

SPANS = 2_000


def payload() -> ExportTraceServiceRequest:
    """A request of spans as our wrapper sends them: seven attributes, ten figures, two slices."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    for name in ("service.name", "container.id", "host.name", "layerline.boot_id"):
        group.resource.attributes.add(key=name).value.string_value = name * 2
    scope = group.scope_spans.add()
    for number in range(SPANS):
        span = scope.spans.add(
            name="GET /cart", kind=2, start_time_unix_nano=10**18, end_time_unix_nano=10**18 + number
        )
        span.trace_id, span.span_id = (number // 5 + 1).to_bytes(16, "big"), (number + 1).to_bytes(8, "big")
        for name in ("http.request.method", "url.scheme", "http.route", "server.address", "user_agent.original"):
            span.attributes.add(key=name).value.string_value = name
        span.attributes.add(key="http.response.status_code").value.int_value = 200
        span.attributes.add(key="thread.id").value.int_value = 17
        for name in SPAN_FIGURES[:10]:
            span.attributes.add(key=name).value.int_value = number
        slices = span.attributes.add(key="layerline.slices").value.array_value
        for figure in range(8):
            slices.values.add(int_value=figure)
    return request


if __name__ == "__main__":
    request = payload()
    for form, body, is_json in (
        ("protobuf", request.SerializeToString(), False),
        ("JSON", json.dumps(otlp_json(request)).encode(), True),
    ):
        best = float("inf")
        for _ in range(7):
            began = time.perf_counter()
            decode("traces", body, is_json=is_json)
            best = min(best, time.perf_counter() - began)
        print(f"{form}: {best / SPANS * 1e6:.1f} µs per span, {len(body) / SPANS:.0f} bytes per span")
