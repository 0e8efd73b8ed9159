"""A server in this process, for as long as a block lasts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from layerline_api.app import create_app
from layerline_api.doors.addresses import addresses, bind, url
from layerline_api.doors.http_server import Door
from layerline_api.settings import ServerSettings
from layerline_correlator.questions.questions import Questions
from waiting import PATIENCE_S

Live = Callable[..., str]


@contextmanager
def serving(questions: Questions, settings: ServerSettings) -> Iterator[str]:
    bound = bind(addresses("127.0.0.1:0")[0])
    door, stop = Door(create_app(questions, settings), [bound]), threading.Event()
    where = url(bound)
    thread = threading.Thread(target=door.serve, args=(stop,))
    thread.start()
    try:
        yield where
    finally:
        stop.set()
        with suppress(OSError), socket.create_connection(bound.getsockname()[:2], 10):
            pass  # it wakes up, and sees that it shall stop
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
