"""One service that can be made slow in every way: each request says what it costs.

``GET /work?cpu_ms=&sleep_ms=&write_kib=&call=URL`` does these one after the other on the request's own thread.
``PUT /siblings?burn=N&write=N`` keeps so many other threads of the process busy, computing or writing, from then on.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import requests
from flask import Flask, request

from layerline_api.demo.shop.service import parser, serve


def burn(milliseconds: float) -> None:
    """Compute for so many milliseconds, in one call that does not hold the interpreter lock.

    So threads of this process compete for cores, as native code does. A thread that is put off its core while it holds
    the lock would make the others wait for the lock instead.
    """
    if milliseconds:
        hashlib.pbkdf2_hmac("sha256", b"layerline", b"salt", max(1, round(milliseconds * PER_MILLISECOND)))


def rounds_per_millisecond(rounds: int = 40_000) -> float:
    """How many rounds this machine computes per millisecond of CPU time; the best of five."""

    def once() -> float:
        began = time.thread_time()
        hashlib.pbkdf2_hmac("sha256", b"layerline", b"salt", rounds)
        return time.thread_time() - began

    return rounds / min(once() for _ in range(5)) / 1_000


PER_MILLISECOND = rounds_per_millisecond()


def write(path: Path, size: int) -> None:
    """Write through to the device."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, os.urandom(1024) * (size // 1024))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sibling(kind: str, folder: Path, stop: threading.Event) -> None:
    """A thread that is not part of any request."""
    while not stop.is_set():
        if kind == "burn":
            burn(50)
        else:
            write(folder / f"sibling-{threading.get_ident()}", 256 * 1024)


def create_app(folder: Path) -> Flask:
    """The service; it writes to ``folder``."""
    app = Flask("app")
    running: list[tuple[threading.Event, threading.Thread]] = []

    @app.get("/work")
    def work() -> str:
        cost = request.args
        burn(float(cost.get("cpu_ms", 0)))
        if kib := int(cost.get("write_kib", 0)):
            write(folder / "own", kib * 1024)
        if milliseconds := int(cost.get("sleep_ms", 0)):
            time.sleep(milliseconds / 1_000)
        if url := cost.get("call"):
            requests.get(url, timeout=60).raise_for_status()
        return "done"

    @app.put("/siblings")
    def siblings() -> str:
        while running:
            stop, thread = running.pop()
            stop.set()
            thread.join()
        for kind in ("burn", "write"):
            for _ in range(int(request.args.get(kind, 0))):
                stop = threading.Event()
                thread = threading.Thread(target=sibling, args=(kind, folder, stop), daemon=True)
                thread.start()
                running.append((stop, thread))
        return str(len(running))

    return app


if __name__ == "__main__":
    arguments = parser(__doc__ or "")
    arguments.add_argument("--folder", type=Path, required=True)
    options = arguments.parse_args()
    serve(create_app(options.folder), options.listen)
