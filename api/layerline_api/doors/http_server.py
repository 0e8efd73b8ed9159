"""The HTTP server: waitress in this process; it loses no answer when it ends, and slow clients do not keep others out.

waitress's own ``run`` drops what is being answered when it is told to stop. This loop stops accepting, lets requests
that have begun get their answer, cuts off those that take too long, and only then returns.

Connections that say nothing, or too slowly, cost a descriptor each and must not keep others out: when there are many,
those that have been idle longest are closed, as HTTP allows at any moment (RFC 9110, 7.6.1: clients open another).
"""

from __future__ import annotations

import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from waitress import wasyncore  # type: ignore[import-untyped]  # waitress ships no types
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]  # waitress ships no types
from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]  # waitress ships no types
from waitress.server import BaseWSGIServer, create_server  # type: ignore[import-untyped]  # waitress ships no types
from waitress.task import ThreadedTaskDispatcher  # type: ignore[import-untyped]  # waitress ships no types
from waitress.utilities import Error  # type: ignore[import-untyped]  # waitress ships no types

from layerline_api.doors.tls import Certificate, Relay
from layerline_correlator.threads import Threads

#: Worker threads: those that may receive at a time (``ServerSettings.receive_at_once``) and eight to answer questions.
THREADS = 24
#: Beyond what the app itself refuses with 413, in bytes; waitress keeps large bodies in temporary files.
BODY_LIMIT_BYTES = 20 * 2**20
#: How often the loop looks whether it was told to stop, in seconds.
LOOK_S = 0.2
#: How long answers may take after that, and then, once they are cut off, to be sent, in seconds.
DRAIN_S, CUT_OFF_S = 4.0, 1.0
#: How long a request may take to arrive, and a connection be idle, in seconds.
REQUEST_S, IDLE_S = 60, 60
#: Connections at a time, at most; half of the descriptors where those are fewer.
CONNECTIONS = 2000
#: From this share of them on, those that have been idle or arriving longest are closed until it is the other share.
_NEAR, _EASED = 0.9, 0.75
#: Descriptors for everything else: the database, the log, gRPC.
_OTHER_DESCRIPTORS = 256
_DESCRIPTORS = 65_536

log = logging.getLogger(__name__)


class Door:
    """The app behind some bound sockets."""

    def __init__(
        self,
        app: Any,
        sockets: Sequence[socket.socket],
        threads: Threads | None = None,
        connections: int | None = None,
        request_s: float = REQUEST_S,
        certificate: Certificate | None = None,
        plain: Sequence[socket.socket] = (),
    ) -> None:
        """With a certificate all sockets speak TLS, but those of ``plain``."""
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line per waiting request is too many
        self._map: dict[int, Any] = {}
        self._threads = threads or Threads()
        # A connection over TLS takes three descriptors: its own, and both ends of what it is carried through.
        self._connections = connections or min(CONNECTIONS, descriptors() // (4 if certificate else 2))
        self._relay = Relay(certificate, self._threads) if certificate else None
        self._request_s = request_s
        self._tidied = 0.0
        self._turned = time.monotonic()
        workers = _Workers(self._threads)
        workers.set_thread_count(THREADS)
        self._server = create_server(
            app,
            map=self._map,
            _dispatcher=workers,
            sockets=[*sockets, *plain],
            threads=THREADS,
            backlog=1024,
            connection_limit=self._connections + len(sockets) + len(plain) + 16,  # beyond what `_tidy` lets stand
            channel_timeout=IDLE_S,
            cleanup_interval=10,
            channel_request_lookahead=1,  # else nobody sees that a client has left while it is being answered
            max_request_body_size=BODY_LIMIT_BYTES,
            asyncore_use_poll=True,
            ident="layerline",
        )
        for server in self._servers():
            server.channel_class = _Channel
            if self._relay is not None and server.socket not in plain:
                _speak_tls(server, self._relay)

    def serve(self, stop: threading.Event, cut_off: Callable[[], None] = lambda: None) -> None:
        """Serve until ``stop`` is set and everything that had begun is answered (4 s at most, then it is cut off)."""
        while not stop.is_set():
            self._turn()
        for server in self._servers():
            wasyncore.dispatcher.close(server)
        self._drain(DRAIN_S, lambda: None)
        self._drain(CUT_OFF_S, cut_off)
        self._server.task_dispatcher.shutdown(timeout=0.5)
        wasyncore.close_all(self._map, ignore_all=True)
        if self._relay is not None:
            self._relay.close()

    def _drain(self, longest_s: float, each: Callable[[], None]) -> None:
        deadline = time.monotonic() + longest_s
        while self._busy() and time.monotonic() < deadline:
            each()
            self._turn()

    def idle_s(self) -> float:
        """For how long the loop has not turned: more than a moment when it is stuck."""
        return time.monotonic() - self._turned

    def _turn(self) -> None:
        self._turned = time.monotonic()
        try:
            self._tidy(time.monotonic())
            wasyncore.loop(timeout=LOOK_S, use_poll=True, map=self._map, count=1)
        except Exception as problem:  # this loop is the server: it must outlive whatever one connection does
            self._threads.failed("layerline-http-loop", problem)
            time.sleep(LOOK_S)

    def _servers(self) -> list[Any]:
        return [one for one in self._map.values() if isinstance(one, BaseWSGIServer)]

    def _channels(self) -> list[Any]:
        return [one for one in self._map.values() if isinstance(one, HTTPChannel)]

    def _busy(self) -> bool:
        """Whether a connection still waits for an answer; those that do not are told to close."""
        channels = self._channels()
        for channel in channels:
            if not channel.requests and channel.request is None:
                channel.close_when_flushed = True
        return bool(channels)

    # ---- who keeps a connection without using it

    def _tidy(self, now: float) -> None:
        """Refuse requests that arrive too slowly; close idle connections when there are many."""
        many = len(self._map) >= _NEAR * self._connections
        if not many and now - self._tidied < 1:
            return
        self._tidied = now
        unanswered = [one for one in self._channels() if not one.requests]
        for channel in unanswered:
            if channel.request is not None and now - channel.request.began > self._request_s:
                _refuse(channel, self._request_s)
        if many:
            too_many = len(self._map) - int(_EASED * self._connections)
            waiting = [one for one in unanswered if not one.requests]
            for channel in sorted(waiting, key=_since_s, reverse=True)[: max(0, too_many)]:
                channel.handle_close()


def _speak_tls(server: Any, relay: Relay) -> None:
    """Let a server of waitress get what it accepts through the relay, and know that its URLs are https."""
    accept = server.accept
    server.adj = copy(server.adj)
    server.adj.url_scheme = "https"
    server.set_socket_options = lambda connection: None  # those of TCP: the relay sets them

    def accepted() -> Any:
        came = accept()
        return came and (relay.take(came[0]), came[1])

    server.accept = accepted


def _since_s(channel: Any) -> float:
    """For how long it has been idle, or its request been arriving, however busily its bytes drip in."""
    request = channel.request
    return float(time.time() - channel.last_activity if request is None else time.monotonic() - request.began)


def _refuse(channel: Any, request_s: float) -> None:
    """Answer 408 and close."""
    request, channel.request = channel.request, None
    request.error = _TooSlow(f"the request took more than {request_s:g} s to arrive")
    request.completed = True
    with channel.requests_lock:
        channel.requests.append(request)
    channel.server.add_task(channel)


class _TooSlow(Error):  # type: ignore[misc]  # waitress ships no types
    code = 408
    reason = "Request Timeout"


class _Arriving(HTTPRequestParser):  # type: ignore[misc]  # waitress ships no types
    """A request that knows since when it has been arriving."""

    path = ""  # until it is known: waitress names it in its log, also where the client left before

    def __init__(self, adjustments: Any) -> None:
        super().__init__(adjustments)
        self.began = time.monotonic()


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress ships no types
    parser_class = _Arriving


class _Workers(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress ships no types
    """waitress's worker threads, started where all threads are."""

    def __init__(self, threads: Threads) -> None:
        super().__init__()
        self._ours = threads

    def start_new_thread(self, target: Callable[[int], None], thread_no: int) -> None:
        self._ours.start("layerline-http", lambda: target(thread_no))


def descriptors() -> int:
    """How many descriptors there are for connections; as many as this process may have are asked for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (ValueError, OSError) as problem:
            log.warning("%d descriptors cannot be had, %d it is: %s", wanted, soft, problem)
    return max(64, (_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft) - _OTHER_DESCRIPTORS)
