"""A live server in this process, behind an ephemeral port."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

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


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes certificates, is not installed")
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-out", paths[0], "-keyout", paths[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths
