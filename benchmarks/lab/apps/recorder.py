"""Receives OTLP over HTTP and keeps it as it came, in ``traces.binpb`` and ``metrics.binpb``, as the Collector does.

Each message follows its length in four bytes, most significant first (the ``file`` exporter's ``format: proto``).
"""

from __future__ import annotations

import argparse
import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SIGNALS = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}
WRITING = threading.Lock()
FOLDER = Path()


class Handler(BaseHTTPRequestHandler):
    """POST keeps; GET answers that it is there."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """It is there."""
        self._answer(200)

    def do_POST(self) -> None:
        """Keep one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        signal = SIGNALS.get(self.path)
        if signal is None:
            self._answer(404)
            return
        with WRITING, (FOLDER / f"{signal}.binpb").open("ab") as file:
            file.write(len(body).to_bytes(4, "big") + body)
        self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--listen", metavar="HOST:PORT", required=True)
    arguments.add_argument("--folder", type=Path, required=True)
    options = arguments.parse_args()
    FOLDER = options.folder
    FOLDER.mkdir(parents=True, exist_ok=True)
    host, _, port = options.listen.rpartition(":")
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
