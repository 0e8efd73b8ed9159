"""The HTTP server: waitress in this process, ended without losing an answer.

waitress's own ``run`` drops what is being answered when it is told to stop. This loop stops accepting, lets requests
that have begun get their answer, and only then returns.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from waitress import wasyncore  # type: ignore[import-untyped]  # waitress ships no types
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]  # waitress ships no types
from waitress.server import BaseWSGIServer, create_server  # type: ignore[import-untyped]  # waitress ships no types

#: Worker threads: those that may receive at a time (``ServerSettings.receive_at_once``) and eight to answer questions.
THREADS = 24
#: Beyond what the app itself refuses with 413, in bytes; waitress keeps large bodies in temporary files.
BODY_LIMIT_BYTES = 64 * 2**20
#: How often the loop looks whether it was told to stop, and how long answers may take after that, in seconds.
LOOK_S, DRAIN_S = 0.2, 5.0


class Door:
    """The app behind some bound sockets."""

    def __init__(self, app: Any, sockets: Sequence[socket.socket]) -> None:
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line per waiting request is too many
        self._map: dict[int, Any] = {}
        self._server = create_server(
            app,
            map=self._map,
            sockets=list(sockets),
            threads=THREADS,
            backlog=1024,
            connection_limit=2000,
            channel_timeout=60,
            channel_request_lookahead=1,  # else nobody sees that a client has left while it is being answered
            max_request_body_size=BODY_LIMIT_BYTES,
            asyncore_use_poll=True,
            ident="layerline",
        )

    def serve(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set and everything that had begun is answered (5 s at most)."""
        while not stop.is_set():
            self._turn()
        for server in [one for one in self._map.values() if isinstance(one, BaseWSGIServer)]:
            wasyncore.dispatcher.close(server)
        deadline = time.monotonic() + DRAIN_S
        while self._busy() and time.monotonic() < deadline:
            self._turn()
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._map, ignore_all=True)

    def _turn(self) -> None:
        wasyncore.loop(timeout=LOOK_S, use_poll=True, map=self._map, count=1)

    def _busy(self) -> bool:
        """Whether a connection still waits for an answer; those that do not are told to close."""
        channels = [one for one in self._map.values() if isinstance(one, HTTPChannel)]
        for channel in channels:
            if not channel.requests and channel.request is None:
                channel.close_when_flushed = True
        return bool(channels)
