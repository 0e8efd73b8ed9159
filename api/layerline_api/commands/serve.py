"""Receive, correlate, answer: one process with the store, OTLP, the API and the page.

``layerline serve`` ends with 0 within ten seconds of SIGTERM or SIGINT, when what it had taken is written, and with 2
where it could not begin.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from layerline_api.alerts.notify import Teller
from layerline_api.alerts.patrol import Patrol
from layerline_api.app import create_app
from layerline_api.doors.addresses import DEFAULT, GRPC_DEFAULT, Address, CannotListen, addresses, bind, url
from layerline_api.doors.grpc_server import GrpcDoor, credentials
from layerline_api.doors.http_server import DRAIN_S, Door
from layerline_api.doors.intake import Intake
from layerline_api.ending import Ending
from layerline_api.measures import Measures
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.disk import why_not_opened
from layerline_correlator.threads import Threads

#: How long gRPC's last requests are waited for once HTTP has ended, in seconds.
GRPC_WAIT_S = 2.0

#: Told where the server can be reached; returns what to do before the server stops.
Companion = Callable[[str, Threads], Callable[[], None]]


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """The options that ``serve`` and ``up`` share."""
    parsed = argparse.ArgumentParser(prog=f"layerline {command}", description=description)
    parsed.add_argument(
        "--listen",
        action="append",
        metavar="HOST:PORT",
        help=f"where to listen for HTTP, repeatable (default {DEFAULT}); beyond loopback a token is needed",
    )
    parsed.add_argument(
        "--grpc-listen",
        action="append",
        metavar="HOST:PORT",
        help=f"where to listen for OTLP/gRPC, repeatable, or `off` (default {GRPC_DEFAULT}, or none where --listen is "
        "given: who chooses addresses chooses all of them)",
    )
    parsed.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="PEM; serve gRPC over TLS (HTTP has none: put a proxy before it)"
    )
    parsed.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM; the key of that certificate")
    parsed.add_argument("--store", type=Path, metavar="DIR", help="the store's folder (default LAYERLINE_STORE)")
    parsed.add_argument("--token", help="what requests must carry (better: LAYERLINE_TOKEN, which `ps` does not show)")
    return parsed


def main(argv: Sequence[str]) -> int:
    """``layerline serve [--listen HOST:PORT]… [--grpc-listen HOST:PORT]… [--store DIR] [--token T]``."""
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
    server = replace(server, tls_cert=options.tls_cert or server.tls_cert, tls_key=options.tls_key or server.tls_key)
    try:
        places = [address for listen in options.listen or [DEFAULT] for address in addresses(listen)]
        grpc_addresses = grpc_places(options)
        secret = credentials(server)
        if secret and not grpc_addresses:
            return refuse("a certificate is given, but gRPC is off, and HTTP has no TLS: put a proxy before it")
        server = replace(server, loopback_only=all(place.loopback for place in places))
        beyond = [place.given for place in (*places, *grpc_addresses) if not place.loopback]
        if not server.has_token and beyond:
            return refuse(f"{beyond[0]} is not loopback; set LAYERLINE_TOKEN (or --token) to listen there")
        sockets = [bind(place) for place in places]
        grpc_bound, missing = grpc_sockets(grpc_addresses, wanted=bool(options.grpc_listen or secret))
    except (CannotListen, ValueError) as problem:
        return refuse(str(problem))
    threads = Threads()
    threads.watch_all()
    ending = Ending()
    try:
        correlator = Correlator.open(settings, threads)
    except Exception as problem:  # in use by another process, not ours to write, not a database: all end here
        for bound in (*sockets, *grpc_bound):
            bound.close()
        return refuse(why_not_opened(settings.store, problem))

    where = ", ".join(url(bound) for bound in sockets)
    if grpc_bound:
        where += ", for gRPC on " + ", ".join(url(bound, "https" if secret else "http") for bound in grpc_bound)
    if (sends := server.token or server.token_write) is not None:
        os.environ["LAYERLINE_TOKEN"] = sends  # for the companion; never on a command line
    try:
        intake = Intake(correlator, server, Measures(correlator, threads), settings.retain_ns)
        door = Door(create_app(correlator, server, intake), sockets, threads=threads)
        patrol = Patrol(correlator.monitors, Teller(server), threads=threads)
        grpc_door = GrpcDoor(intake, server, grpc_bound, secret)
        print(f"layerline: listening on {where}, store in {settings.store}", file=sys.stderr, flush=True)
        if missing:
            print(f"layerline {command}: {missing}", file=sys.stderr, flush=True)
        end = companion(url(sockets[0]), threads) if companion else lambda: None
        stop = threading.Event()

        def finish() -> None:
            ending.asked.wait()
            try:
                end()
                patrol.halt()
                grpc_door.stop(DRAIN_S)
            finally:
                stop.set()

        threads.start("layerline-finish", finish, again=False)
        patrol.start()
        door.serve(stop, correlator.interrupt)
        patrol.stop()
        grpc_door.wait(GRPC_WAIT_S)
    except CannotListen as problem:  # gRPC's address was taken since it was looked at
        return refuse(str(problem))
    finally:
        correlator.close()
    ending.leave(0)
    return 0


def grpc_places(options: argparse.Namespace) -> list[Address]:
    """Where to listen for gRPC; nowhere where it is off. ``CannotListen``."""
    given = options.grpc_listen or ([] if options.listen else [GRPC_DEFAULT])
    if given == ["off"]:
        return []
    return [address for listen in given for address in addresses(listen)]


def grpc_sockets(places: Sequence[Address], wanted: bool) -> tuple[list[socket.socket], str]:
    """Sockets bound to these addresses; none and the reason where one is taken that nobody asked for by name.

    Whoever has a Collector on gRPC's usual port must not be kept from ``layerline up``. ``CannotListen``.
    """
    try:
        return [bind(place) for place in places], ""
    except CannotListen as problem:
        if wanted:
            raise
        return [], f"{problem}; going on without OTLP/gRPC (--grpc-listen HOST:PORT takes another address)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
