"""A live server in this process, behind an ephemeral port."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from live_server import Live, serving

from browser import browser  # noqa: F401 - a fixture
from layerline_api.settings import ServerSettings
from layerline_correlator.questions.questions import Questions


@pytest.fixture
def live() -> Iterator[Live]:
    """``live(questions, settings)`` is the URL of a server that ends with the test."""
    with ExitStack() as servers:

        def serve(questions: Questions, settings: ServerSettings | None = None) -> str:
            return servers.enter_context(serving(questions, settings or ServerSettings()))

        yield serve


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that the kernel gives to nobody who asks for any."""
    while True:
        port = random.randrange(10_000, 32_768)  # noqa: S311 - below those that the kernel hands out
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
