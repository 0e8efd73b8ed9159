"""One door for the three signals: body and content type in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from layerline_api.doors.bounds import Bounds
from layerline_api.doors.otlp.json_form import to_protobuf
from layerline_api.doors.otlp.logs import decode_logs
from layerline_api.doors.otlp.masking import BY_DEFAULT, Masking
from layerline_api.doors.otlp.metrics import decode_metrics
from layerline_api.doors.otlp.problems import Malformed, Rejections
from layerline_api.doors.otlp.traces import decode_traces
from layerline_correlator.store.caps import SENDERS, SERIES, TAG_VALUES, Exceeded
from layerline_correlator.store.model import Batch

#: What exceeds a cap, by its kind.
_NAMED = {
    SERIES: "a series of metric {!r}",
    SENDERS: "a sender of service {!r}",
    TAG_VALUES: "attribute {!r}",
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one request brought, and OTLP's answer to it once the batch is durable."""

    batch: Batch
    rejections: Rejections
    answers: Callable[[Rejections], Message]

    @property
    def rejected(self) -> int:
        """How many items are not taken."""
        return self.rejections.count

    @property
    def answer(self) -> Message:
        """The response body, with partial success where something was rejected."""
        return self.answers(self.rejections)

    def exceeds(self, caps: Iterable[Exceeded]) -> None:
        """What the store did not take, because it is beyond a cap, is rejected too; a tag alone is a warning."""
        for one in caps:
            of = _NAMED[one.kind].format(one.name[:80])
            self.rejections.add(of, one.why, 0 if one.item == "tag" else one.items)


@dataclass(frozen=True, slots=True)
class Decoder:
    """One of OTLP's signals: its request class, its rows, its answer."""

    request: type[Message]
    rows: Callable[..., tuple[Batch, Rejections]]  # body, bounds, rejections to count on, and masking
    answer: Callable[[Rejections], Message]


def _traces_answer(rejections: Rejections) -> Message:
    if not rejections.is_any():
        return ExportTraceServiceResponse()
    return ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=rejections.count, error_message=rejections.message())
    )


def _metrics_answer(rejections: Rejections) -> Message:
    if not rejections.is_any():
        return ExportMetricsServiceResponse()
    return ExportMetricsServiceResponse(
        partial_success=ExportMetricsPartialSuccess(
            rejected_data_points=rejections.count, error_message=rejections.message()
        )
    )


def _logs_answer(rejections: Rejections) -> Message:
    if not rejections.is_any():
        return ExportLogsServiceResponse()
    return ExportLogsServiceResponse(
        partial_success=ExportLogsPartialSuccess(
            rejected_log_records=rejections.count, error_message=rejections.message()
        )
    )


def _points(body: bytes, bounds: Bounds, rejections: Rejections | None, _: Masking) -> tuple[Batch, Rejections]:
    return decode_metrics(body, bounds, rejections)


#: By the last word of the path: ``/v1/traces``, ``/v1/metrics``, ``/v1/logs``.
DECODERS = {
    "traces": Decoder(ExportTraceServiceRequest, decode_traces, _traces_answer),
    "metrics": Decoder(ExportMetricsServiceRequest, _points, _metrics_answer),
    "logs": Decoder(ExportLogsServiceRequest, decode_logs, _logs_answer),
}


def decode(
    signal: str,
    body: bytes,
    *,
    is_json: bool,
    bounds: Bounds | None = None,
    masking: Masking = BY_DEFAULT,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> Decoded:
    """The rows of one request; without ``bounds`` of any age. ``Malformed`` and ``TooLarge`` say what is wrong.

    Every resource has ``tags``, whatever its sender says of them.
    """
    decoder, rejections = DECODERS[signal], Rejections()
    if is_json:
        body = to_protobuf(decoder.request, body, rejections)
    if tags:
        body = _tagged(decoder.request, body, tags)
    batch, rejections = decoder.rows(body, bounds, rejections, masking)
    return Decoded(batch, rejections, decoder.answer)


def _tagged(request: type[Message], body: bytes, tags: Mapping[str, str]) -> bytes:
    """The request with these attributes on each of its resources. ``Malformed`` where it is none."""
    try:
        message = request.FromString(body)
    except DecodeError as problem:
        raise Malformed(f"the body is not OTLP: {problem}") from None
    for _, several in message.ListFields():  # resource_spans, resource_metrics or resource_logs: there is nothing else
        for one in several:
            kept = [attribute for attribute in one.resource.attributes if attribute.key not in tags]
            del one.resource.attributes[:]
            one.resource.attributes.extend(kept)
            for key, value in tags.items():
                one.resource.attributes.add(key=key).value.string_value = value
    return message.SerializeToString()
