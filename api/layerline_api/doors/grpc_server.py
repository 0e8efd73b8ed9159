"""OTLP over gRPC: ``opentelemetry.proto.collector.{trace,metrics,logs}.v1.*Service/Export``.

No generated servicers: a message stays bytes until ``Intake`` reads it, with the limits of the HTTP side. gRPC's own
decompression has no limit (50 kB of gzip become 50 MB before anyone is asked), so it is off, and a compressed message
is known by its first two bytes: no message of OTLP can begin with them, as 7 is no wire type of protobuf.

A request is answered when what it brought is durable. ``INVALID_ARGUMENT`` and ``RESOURCE_EXHAUSTED`` without
``RetryInfo`` are the sender's to drop, ``UNAVAILABLE`` with ``RetryInfo`` is to be sent again. Source: OTLP
specification 1.x, "OTLP/gRPC".
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

# The library's core writes a line to stderr for whatever a client does wrong; we answer the client instead.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # its stubs come without py.typed
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # idem

from layerline_api.doors.addresses import CannotListen
from layerline_api.doors.intake import Intake
from layerline_api.guard import WRITE, bearer_rights
from layerline_api.problems import Problem, grpc_code
from layerline_api.settings import ServerSettings

log = logging.getLogger(__name__)

_SIGNALS = {
    f"/opentelemetry.proto.collector.{package}.v1.{service}/Export": signal
    for package, service, signal in (
        ("trace", "TraceService", "traces"),
        ("metrics", "MetricsService", "metrics"),
        ("logs", "LogsService", "logs"),
    )
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_GZIP = b"\x1f\x8b"
#: How long a sender may take over one message, in seconds; then it is cancelled, and its thread is free again.
READ_S = 20.0
#: When to come again, in seconds.
RETRY_S = 1


class GrpcDoor:
    """The gRPC server on some addresses (or none), serving from the moment it is made."""

    def __init__(
        self,
        intake: Intake,
        settings: ServerSettings,
        reserved: Sequence[socket.socket],
        secret: grpc.ServerCredentials | None = None,
    ) -> None:
        """``reserved`` are sockets bound to the addresses; they are closed: gRPC binds for itself. ``CannotListen``."""
        self._server = grpc.server(
            # Those that receive, and as many to tell others to come back.
            ThreadPoolExecutor(2 * settings.receive_at_once, "layerline-grpc"),
            handlers=[_Export(intake, settings)],
            options=[
                ("grpc.so_reuseport", 0),  # two servers on one port would share its connections
                ("grpc.max_receive_message_length", settings.body_limit_bytes),
                ("grpc.per_message_decompression", 0),
                ("grpc.compression_enabled_algorithms_bitset", 0b101),  # identity and gzip
                ("grpc.max_concurrent_streams", 256),
                ("grpc.server_handshake_timeout_ms", 20_000),  # a connection that says nothing
                ("grpc.max_connection_idle_ms", 300_000),  # told to come again: clients do, without losing a request
            ],
        )
        for bound in reserved:
            host, port = bound.getsockname()[:2]
            bound.close()
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            try:
                if secret is None:
                    self._server.add_insecure_port(place)
                else:
                    self._server.add_secure_port(place, secret)
            except RuntimeError:
                raise CannotListen(f"cannot listen on {place} for gRPC") from None
        self._server.start()

    def stop(self, grace_s: float) -> None:
        """Take no more requests. Those that have begun are answered, or cancelled after ``grace_s``."""
        self._server.stop(grace_s)

    def wait(self, longest_s: float | None = None) -> None:
        """Return when it has stopped, or after that time."""
        self._server.wait_for_termination(longest_s)


def credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """What TLS needs; None where no certificate is given. ValueError says what is missing or of no use."""
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "--tls-cert (LAYERLINE_TLS_CERT)" if certificate is None else "--tls-key (LAYERLINE_TLS_KEY)"
        raise ValueError(f"TLS needs a certificate and its key; {missing} is missing")
    try:
        pair = (key.read_bytes(), certificate.read_bytes())
        # Tried here first, because gRPC only ever says that it could not bind.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError:
        raise ValueError(f"{certificate} and {key}: expected a certificate and its key, PEM, no passphrase") from None
    except OSError as problem:
        raise ValueError(f"{problem.filename} cannot be read: {problem.strerror}") from None
    return grpc.ssl_server_credentials([pair])


class _Export(grpc.GenericRpcHandler):
    """The three Export methods. Everything else is UNIMPLEMENTED.

    They are answered as streams of one request, because then the message is read when we ask for it: not from a sender
    without the token, and not beyond those that may receive at a time.
    """

    def __init__(self, intake: Intake, settings: ServerSettings) -> None:
        self._intake = intake
        self._settings = settings
        self._room = threading.BoundedSemaphore(settings.receive_at_once)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        signal = _SIGNALS.get(handler_call_details.method)
        if signal is None:
            return None

        def export(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            return self._export(signal, requests, context)

        return grpc.stream_unary_rpc_method_handler(export)

    def _export(self, signal: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        try:
            with self._intake.measures.refusals("grpc"):
                return self._receive(signal, requests, context)
        except Problem as problem:
            _abort(context, problem)
        except grpc.RpcError:  # the sender went away, or was cancelled because it took too long
            raise
        except Exception:
            log.exception("a gRPC request for %s failed", signal)
            _abort(context, Problem(500, "the server failed to answer; its log says why"))

    def _receive(self, signal: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        if self._settings.has_token:
            rights = bearer_rights(_authorization(context), self._settings)
            if not rights:
                raise Problem(401, "the token is missing or wrong; expected metadata authorization: Bearer TOKEN")
            if WRITE not in rights:
                raise Problem(403, "this token may only read; sending needs LAYERLINE_TOKEN or LAYERLINE_TOKEN_WRITE")
        if not self._room.acquire(blocking=False):
            raise Problem(503, f"{self._settings.receive_at_once} requests are being stored; send this one again later")
        try:
            body = _message(requests, context)
            answer = self._intake.take(signal, body, "grpc", packed=body.startswith(_GZIP))
            return answer.SerializeToString()
        finally:
            self._room.release()


def _message(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    """The request's one message. grpc.RpcError when it does not come."""
    patience = threading.Timer(READ_S, context.cancel)
    patience.daemon = True
    patience.start()
    try:
        body = next(requests, None)
    finally:
        patience.cancel()
    if body is None:
        raise Problem(400, "the request holds no message")
    return body


def _authorization(context: grpc.ServicerContext) -> str:
    for name, value in context.invocation_metadata():
        if name == "authorization":
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


def _abort(context: grpc.ServicerContext, problem: Problem) -> NoReturn:
    """End the request with gRPC's code for the problem; what may be sent again says when (google.rpc.RetryInfo)."""
    code = grpc_code(problem.status)
    if problem.status == 503:
        status = Status(code=code, message=problem.detail)
        status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=RETRY_S)))
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(_CODES[code], problem.detail)
