"""What the three services share: their arguments and their server."""

from __future__ import annotations

import argparse

import waitress  # type: ignore[import-untyped]  # it ships no type information
from flask import Flask


def parser(description: str) -> argparse.ArgumentParser:
    """A service's arguments: every one of them listens somewhere."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8000")
    return arguments


def serve(app: Flask, listen: str) -> None:
    """Serve until told to stop: a threaded WSGI server, as in production."""
    app.add_url_rule("/healthz", "healthz", lambda: "ok")
    host, _, port = listen.rpartition(":")
    waitress.serve(app, host=host, port=int(port), threads=4)
