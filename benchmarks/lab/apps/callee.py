"""A service that is called, is not instrumented, and can outgrow its memory: ``PUT /grow`` ends in an OOM kill."""

from __future__ import annotations

import argparse
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """GET answers at once."""

    def do_GET(self) -> None:
        """Answer."""
        self._answer(200)

    def do_PUT(self) -> None:
        """``/grow``: take memory until the kernel ends it."""
        if self.path != "/grow":
            self._answer(404)
            return
        threading.Thread(target=grow, daemon=True).start()
        self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def grow() -> None:
    """Take memory, and touch it."""
    kept = []
    while True:
        kept.append(bytearray(b"x" * (4 << 20)))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--listen", metavar="HOST:PORT", required=True)
    host, _, port = arguments.parse_args().listen.rpartition(":")
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
