"""Receive, correlate, answer: one process with the store, OTLP, the API and the page.

``layerline serve`` ends with 0 within ten seconds of SIGTERM or SIGINT, when what it had taken is written, and with 2
where it could not begin.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

from layerline.configuration import Layered, below
from layerline.hangup import on_hangup
from layerline.lines import log_as_json, say
from layerline.notify import READY, STOPPING, WATCHDOG, notify, watchdog_s
from layerline.parsing import Parser
from layerline_api.alerts.notify import Teller
from layerline_api.alerts.patrol import Patrol
from layerline_api.app import create_app
from layerline_api.doors.addresses import DEFAULT, GRPC_DEFAULT, Address, CannotListen, addresses, bind, url
from layerline_api.doors.grpc_server import GrpcDoor, credentials
from layerline_api.doors.http_server import DRAIN_S, Door
from layerline_api.doors.intake import Intake
from layerline_api.doors.tls import certificate_of
from layerline_api.ending import Ending
from layerline_api.live import Live, Reload
from layerline_api.measures import Measures
from layerline_api.settings import ServerSettings
from layerline_api.tokens import WRITE, Token
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.disk import why_not_opened
from layerline_correlator.threads import Threads

#: How long gRPC's last requests are waited for once HTTP has ended, in seconds.
GRPC_WAIT_S = 2.0

#: The name of the token that a companion gets where the server has only tokens of a file.
OWN = "the agent beside"
#: Told where the server can be reached; returns what to do before the server stops.
Companion = Callable[[str, Threads], Callable[[], None]]


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """The options that ``serve`` and ``up`` share."""
    parsed = Parser(prog=f"layerline {command}", description=description)
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
        "--tls-cert", type=Path, metavar="FILE", help="PEM; serve HTTP and gRPC over TLS (LAYERLINE_TLS_CERT)"
    )
    parsed.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM; the key of that certificate")
    parsed.add_argument("--store", type=Path, metavar="DIR", help="the store's folder (default LAYERLINE_STORE)")
    parsed.add_argument("--token", help="what requests must carry (better: LAYERLINE_TOKEN, which `ps` does not show)")
    parsed.add_argument("--config", metavar="FILE", help="the settings file (`layerline config`)")
    return parsed


def main(argv: Sequence[str]) -> int:
    """``layerline serve [--listen HOST:PORT]… [--grpc-listen HOST:PORT]… [--store DIR] [--token T]``."""
    return run("serve", parser("serve", (__doc__ or "").partition("\n")[0]).parse_args(argv))


def run(command: str, options: argparse.Namespace, companion: Companion | None = None) -> int:
    """Serve until told to stop. 0 after a clean end, 2 with one line on stderr where it could not begin."""

    def refuse(reason: str) -> int:
        say(f"layerline {command}", reason)
        return 2

    environment, started_with = Layered(), dict(os.environ)
    try:
        environment = below("serve", options.config)
        settings, server = settings_of(options, environment)
    except ValueError as problem:
        return refuse(environment.explained(problem))
    if server.log == "json":
        log_as_json()
    try:
        places = [address for listen in server.listen or [DEFAULT] for address in addresses(listen)]
        grpc_addresses = grpc_places(server)
        certificate = certificate_of(server)
        server = replace(server, loopback_only=all(place.loopback for place in places))
        beyond = [place.given for place in (*places, *grpc_addresses) if not place.loopback]
        if not server.all_tokens and beyond:
            return refuse(f"{beyond[0]} is not loopback; set LAYERLINE_TOKEN (or --token) to listen there")
        sockets = [bind(place) for place in places]
        # The companion of a server that speaks TLS has a door of its own: no certificate names this loopback.
        beside = [bind(addresses("127.0.0.1:0")[0])] if companion and certificate else []
        grpc_bound, missing = grpc_sockets(grpc_addresses, wanted=bool(server.grpc_listen or certificate))
    except (CannotListen, ValueError) as problem:
        return refuse(str(problem))
    threads = Threads()
    threads.watch_all()
    ending = Ending()
    try:
        correlator = Correlator.open(settings, threads)
    except Exception as problem:  # in use by another process, not ours to write, not a database: all end here
        for bound in (*sockets, *beside, *grpc_bound):
            bound.close()
        return refuse(why_not_opened(settings.store, problem))

    scheme = "https" if certificate else "http"
    where = ", ".join(url(bound, scheme) for bound in sockets)
    if grpc_bound:
        where += ", for gRPC on " + ", ".join(url(bound, scheme) for bound in grpc_bound)
    if companion and server.all_tokens:
        own = server.token or secrets.token_urlsafe(32)
        os.environ["LAYERLINE_TOKEN"] = own  # for the companion; never on a command line
        if server.token is None:
            server = replace(server, tokens=(*server.tokens, replace(Token.of(OWN, own), may=frozenset({WRITE}))))
    settings_now, live = Live.of(server)
    try:
        intake = Intake(correlator, settings_now, Measures(correlator, threads), settings.retain_ns)
        app = create_app(correlator, settings_now, intake)
        door = Door(app, sockets, threads=threads, certificate=certificate, plain=beside)
        patrol = Patrol(correlator.monitors, Teller(settings_now), threads=threads)
        grpc_door = GrpcDoor(intake, settings_now, grpc_bound, credentials(certificate))
        say("layerline", f"listening on {where}, store in {settings.store}")
        if missing:
            say(f"layerline {command}", missing)
        end = companion(url((beside or sockets)[0]), threads) if companion else lambda: None
        stop = threading.Event()

        def finish() -> None:
            ending.asked.wait()
            notify(STOPPING)
            try:
                end()
                patrol.halt()
                grpc_door.stop(DRAIN_S)
            finally:
                stop.set()

        def anew() -> tuple[Settings, ServerSettings]:
            again = below("serve", options.config, started_with)
            try:
                fresh, fresh_server = settings_of(options, again)
            except ValueError as problem:
                raise ValueError(again.explained(problem)) from None
            kept = tuple(token for token in live.now.tokens if token.name == OWN)
            return fresh, replace(fresh_server, tokens=(*fresh_server.tokens, *kept))

        reload_on_hangup(Reload(live, settings, correlator, certificate, anew), threads)
        threads.start("layerline-finish", finish, again=False)
        patrol.start()
        notify(READY)
        if (every_s := watchdog_s()) is not None:
            threads.start("layerline-watchdog", lambda: keep_watch(door, stop, every_s))
        door.serve(stop, correlator.interrupt)
        patrol.stop()
        grpc_door.wait(GRPC_WAIT_S)
    except CannotListen as problem:  # gRPC's address was taken since it was looked at
        return refuse(str(problem))
    finally:
        correlator.close()
    ending.leave(0)
    return 0


def keep_watch(door: Door, stop: threading.Event, every_s: float) -> None:
    """Give systemd a sign of life, for as long as the server's loop turns."""
    while not stop.wait(every_s):
        if door.idle_s() < every_s:
            notify(WATCHDOG)


def reload_on_hangup(reload: Reload, threads: Threads) -> None:
    """Read the settings anew at every SIGHUP, on a thread of its own: files may be slow."""
    asked: SimpleQueue[None] = SimpleQueue()

    def keep_up() -> None:
        while True:
            asked.get()
            say("layerline", reload())

    if on_hangup(lambda: asked.put(None)):
        threads.start("layerline-settings", keep_up)


def settings_of(options: argparse.Namespace, environment: Mapping[str, str]) -> tuple[Settings, ServerSettings]:
    """What store and server are made with: arguments, then variables and the file. ValueError names what is wrong."""
    settings, server = Settings.from_environment(environment), ServerSettings.from_environment(environment)
    if options.store is not None:
        settings = replace(settings, store=options.store)
    if options.token is not None:
        server = replace(server, token=options.token or None)
    listen, grpc_listen = server.listen, server.grpc_listen
    if options.listen:  # who chooses addresses chooses all of them
        listen, grpc_listen = tuple(options.listen), ()
    return settings, replace(
        server,
        tls_cert=options.tls_cert or server.tls_cert,
        tls_key=options.tls_key or server.tls_key,
        listen=listen,
        grpc_listen=tuple(options.grpc_listen or grpc_listen),
    )


def grpc_places(server: ServerSettings) -> list[Address]:
    """Where to listen for gRPC; nowhere where it is off. ``CannotListen``."""
    given = server.grpc_listen or (() if server.listen else (GRPC_DEFAULT,))
    if given == ("off",):
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
