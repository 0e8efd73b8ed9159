"""What a span carries beside its attributes: what its request lost to each cause, so that Jaeger's clients see it.

====================================  =======================================================================
``layerline.lost.<cause>_ms``         what the request lost to that cause
``layerline.lost.unexplained_ms``     what no cause took; with the others it adds up to the request's duration
``layerline.usual_ms``                how long such a request usually takes
``layerline.excess_ms``               how much longer it took
``layerline.slow``                    whether it was slow
``layerline.cause``                   the first culprit of a slow request
``layerline.page``                    where its verdict is to be read
====================================  =======================================================================
"""

from __future__ import annotations

from layerline_correlator.questions.spans import ReceivedSpan

Value = str | int | float | bool

_NUMBERS = frozenset(
    {
        "http.response.status_code", "http.status_code", "server.port", "client.port", "network.peer.port",
        "net.peer.port", "rpc.grpc.status_code", "process.pid", "http.request.body.size", "http.response.body.size",
    }
)  # fmt: skip


def tags_of(span: ReceivedSpan, page: str) -> dict[str, Value]:
    """Its attributes and its ledger. ``page`` is the address of the pages of this server, ``http://127.0.0.1:4318``."""
    tags: dict[str, Value] = {key: typed(key, value) for key, value in span.attributes.items()}
    lost = span.lost
    if lost is None:
        return tags
    duration_ns = span.end_ns - span.start_ns
    tags["layerline.slow"] = lost.slow
    tags["layerline.page"] = f"{page}/requests/{span.trace_id}?span_id={span.span_id}"
    if lost.usual_ns is not None:
        tags |= {
            "layerline.usual_ms": _ms(lost.usual_ns),
            "layerline.excess_ms": _ms(duration_ns - lost.usual_ns),
        }
    if lost.cause is not None:
        tags["layerline.cause"] = lost.cause
    if lost.unexplained_ns is not None:
        tags |= {f"layerline.lost.{cause}_ms": _ms(lost_ns) for cause, lost_ns in lost.by_cause}
        tags["layerline.lost.unexplained_ms"] = _ms(lost.unexplained_ns)
    return tags


def typed(key: str, value: str | int) -> Value:
    """A number where the attribute is one by OpenTelemetry's conventions: what is stored is text."""
    if isinstance(value, str) and key in _NUMBERS and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return value


def _ms(ns: int) -> float:
    return ns / 1e6
