"""A live server in this process, behind an ephemeral port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from layerline_api.addresses import addresses, bind, url
from layerline_api.app import create_app
from layerline_api.door import Door
from layerline_api.settings import ServerSettings
from layerline_correlator.query import Questions

Live = Callable[..., str]


@contextmanager
def _serving(questions: Questions, settings: ServerSettings) -> Iterator[str]:
    bound = bind(addresses("127.0.0.1:0")[0])
    door, stop = Door(create_app(questions, settings), [bound]), threading.Event()
    where = url(bound)
    thread = threading.Thread(target=door.serve, args=(stop,))
    thread.start()
    try:
        yield where
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def live() -> Iterator[Live]:
    """``live(questions, settings)`` is the URL of a server that ends with the test."""
    with ExitStack() as servers:

        def serve(questions: Questions, settings: ServerSettings | None = None) -> str:
            return servers.enter_context(_serving(questions, settings or ServerSettings()))

        yield serve


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port
