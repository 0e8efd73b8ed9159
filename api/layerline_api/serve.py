"""Receive, correlate, answer: one process with the store, OTLP, the API and the page.

``layerline serve`` ends with 0 after SIGTERM or SIGINT, when what it had taken is written, and with 2 where it could
not begin.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from layerline_api.addresses import DEFAULT, CannotListen, addresses, bind, url
from layerline_api.app import create_app
from layerline_api.door import Door
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings

#: Told where the server can be reached; returns what to do before the server stops.
Companion = Callable[[str], Callable[[], None]]


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """The options that ``serve`` and ``up`` share."""
    parsed = argparse.ArgumentParser(prog=f"layerline {command}", description=description)
    parsed.add_argument(
        "--listen",
        action="append",
        metavar="HOST:PORT",
        help=f"where to listen, repeatable (default {DEFAULT}); beyond loopback a token is needed",
    )
    parsed.add_argument("--store", type=Path, metavar="DIR", help="the store's folder (default LAYERLINE_STORE)")
    parsed.add_argument("--token", help="what requests must carry (better: LAYERLINE_TOKEN, which `ps` does not show)")
    return parsed


def main(argv: Sequence[str]) -> int:
    """``layerline serve [--listen HOST:PORT]… [--store DIR] [--token T]``."""
    return run("serve", parser("serve", (__doc__ or "").partition("\n")[0]).parse_args(argv))


def run(command: str, options: argparse.Namespace, companion: Companion | None = None) -> int:
    """Serve until told to stop. 0 after a clean end, 2 with one line on stderr where it could not begin."""

    def refuse(reason: str) -> int:
        print(f"layerline {command}: {reason}", file=sys.stderr)
        return 2

    try:
        settings = Settings.from_environment()
    except ValueError as problem:
        return refuse(str(problem))
    if options.store is not None:
        settings = replace(settings, store=options.store)
    server = ServerSettings.from_environment()
    if options.token is not None:
        server = replace(server, token=options.token or None)
    try:
        places = [address for listen in options.listen or [DEFAULT] for address in addresses(listen)]
        server = replace(server, loopback_only=all(place.loopback for place in places))
        if server.token is None and not server.loopback_only:
            beyond = next(place.given for place in places if not place.loopback)
            return refuse(f"{beyond} is not loopback; set LAYERLINE_TOKEN (or --token) to listen there")
        sockets = [bind(place) for place in places]
    except CannotListen as problem:
        return refuse(str(problem))
    try:
        correlator = Correlator.open(settings)
    except Exception as problem:  # in use by another process, not ours to write, not a database: all end here
        for bound in sockets:
            bound.close()
        return refuse(f"the store in {settings.store} cannot be opened: {problem}")

    asked, stop = threading.Event(), threading.Event()

    def told(number: int, _: object) -> None:
        asked.set()
        signal.signal(number, signal.SIG_DFL)  # who asks twice does not want to wait

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    where = ", ".join(url(bound) for bound in sockets)
    if server.token is not None:
        os.environ["LAYERLINE_TOKEN"] = server.token  # for the companion; never on a command line
    try:
        door = Door(create_app(correlator, server), sockets)
        print(f"layerline: listening on {where}, store in {settings.store}", file=sys.stderr, flush=True)
        end = companion(url(sockets[0])) if companion else lambda: None

        def finish() -> None:
            asked.wait()
            end()
            stop.set()

        threading.Thread(target=finish, name="layerline-finish", daemon=True).start()
        door.serve(stop)
    finally:
        correlator.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
