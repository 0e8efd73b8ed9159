"""``stock``: counts what is there. GET /stock asks ``prices``, writes its journal through to the device, computes."""

from __future__ import annotations

import os
from pathlib import Path

import requests
from flask import Flask, jsonify
from flask.typing import ResponseReturnValue

from layerline_api.demo.shop.burn import burn
from layerline_api.demo.shop.service import parser, serve

COUNT_CPU_NS = 40_000_000
JOURNAL_BYTES = 512 * 1024


def create_app(prices: str, journal: Path) -> Flask:
    """The service; ``prices`` is ``host:port``, ``journal`` a folder on the device."""
    app = Flask("stock")

    @app.get("/stock")
    def stock() -> ResponseReturnValue:
        """What is in stock, with prices. Written to the journal before it is answered."""
        answer = requests.get(f"http://{prices}/prices", timeout=60)
        answer.raise_for_status()
        write(journal / "journal", os.urandom(1024) * (JOURNAL_BYTES // 1024))
        burn(COUNT_CPU_NS)
        return jsonify(count=3, prices=answer.json())

    return app


def write(path: Path, entry: bytes) -> None:
    """Replace the journal and wait until the device has it (``fsync``): what a write limit acts upon."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, entry)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    arguments = parser(__doc__ or "")
    arguments.add_argument("--prices", metavar="HOST:PORT", required=True)
    arguments.add_argument("--journal", type=Path, required=True)
    options = arguments.parse_args()
    options.journal.mkdir(parents=True, exist_ok=True)
    serve(create_app(options.prices, options.journal), options.listen)
