"""TLS for the HTTP server: waitress has none, so that its connections are carried through a relay in this process.

waitress accepts a connection, and gets one end of a socket pair in its place; the relay shakes hands on the real one
and carries bytes between the two. So all that ``http_server`` does about slow, idle and too many connections holds,
also for those that never finish their handshake: waitress closes its end, and the relay the other.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

from layerline_api.settings import ServerSettings
from layerline_correlator.threads import Threads

#: How long a handshake and the goodbye may take, in seconds.
HANDSHAKE_S: Final = 20.0
GOODBYE_S: Final = 2.0
_AT_ONCE_BYTES: Final = 2**16


class Certificate:
    """A certificate with its key, which can be read anew while connections use it."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """ValueError says what is of no use."""
        self._files = certificate, key
        #: What new connections are served with.
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.load()

    def load(self) -> None:
        """Read both files; connections from now on are served with them. ValueError: all is as it was."""
        certificate, key = self._files
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
            self.context.load_cert_chain(certificate, key, password=lambda: "")
        except ssl.SSLError:
            expected = "expected a certificate and its key, PEM, no passphrase"
            raise ValueError(f"{certificate} and {key}: {expected}") from None
        except OSError as problem:
            raise ValueError(f"{problem.filename or certificate} cannot be read: {problem.strerror}") from None

    @property
    def pair(self) -> tuple[bytes, bytes]:
        """Key and certificate, as gRPC takes them. ValueError where they cannot be read any more."""
        certificate, key = self._files
        try:
            return key.read_bytes(), certificate.read_bytes()
        except OSError as problem:
            raise ValueError(f"{problem.filename} cannot be read: {problem.strerror}") from None


def certificate_of(settings: ServerSettings) -> Certificate | None:
    """The certificate to serve with; None where none is given. ValueError says what is missing or of no use."""
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "--tls-cert (LAYERLINE_TLS_CERT)" if certificate is None else "--tls-key (LAYERLINE_TLS_KEY)"
        raise ValueError(f"TLS needs a certificate and its key; {missing} is missing")
    return Certificate(certificate, key)


class Relay:
    """Carries bytes between connections that speak TLS and the server."""

    def __init__(self, certificate: Certificate, threads: Threads) -> None:
        self._context = certificate.context
        self._loop = asyncio.new_event_loop()
        self._carried: set[asyncio.Task[None]] = set()
        self._thread = threads.start("layerline-tls", self._loop.run_forever)

    def take(self, connection: socket.socket) -> socket.socket:
        """What the server gets for this connection. OSError where there are no descriptors left."""
        try:
            servers, ours = socket.socketpair()
        except OSError:
            connection.close()
            raise
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for one in (connection, ours):
            one.setblocking(False)
        self._loop.call_soon_threadsafe(self._begin, connection, ours)
        return servers

    def close(self) -> None:
        """Carry what is under way to its end, for ``GOODBYE_S`` at most."""
        ending = asyncio.run_coroutine_threadsafe(self._finish(), self._loop)
        with suppress(TimeoutError):
            ending.result(GOODBYE_S + 1)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()

    async def _finish(self) -> None:
        if self._carried:
            await asyncio.wait(self._carried, timeout=GOODBYE_S)
        left = list(self._carried)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # the connections closed last get to know it

    def _begin(self, connection: socket.socket, ours: socket.socket) -> None:
        task = self._loop.create_task(self._carry(connection, ours))
        self._carried.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._carried.discard(task)
        if not task.cancelled():
            task.exception()  # a connection that broke off is no fault of ours

    async def _carry(self, connection: socket.socket, ours: socket.socket) -> None:
        try:
            server, to_server = await asyncio.open_connection(sock=ours, limit=_AT_ONCE_BYTES)
        except BaseException:
            connection.close()
            ours.close()
            raise
        # The server says nothing before a request has come, unless it closes: then nobody needs the handshake.
        first = self._loop.create_task(server.read(_AT_ONCE_BYTES))
        shaking = self._loop.create_task(self._shake_hands(connection))
        to_client: asyncio.StreamWriter | None = None
        pumps: list[asyncio.Task[None]] = []
        try:
            await asyncio.wait({first, shaking}, return_when=asyncio.FIRST_COMPLETED)
            if first.done() and not shaking.done():
                return
            client, to_client = await shaking
            pumps = [
                self._loop.create_task(_pump(client, to_server)),
                self._loop.create_task(_pump(server, to_client, first)),
            ]
            # The server ends a connection when all is answered; a client that leaves waits for nothing more.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.IncompleteReadError):  # no handshake: another protocol, no trust, no patience
            return
        finally:
            for task in (first, shaking, *pumps):
                task.cancel()
            to_server.close()
            if to_client is not None:
                to_client.close()
                with suppress(OSError, TimeoutError):
                    await asyncio.wait_for(to_client.wait_closed(), GOODBYE_S)

    async def _shake_hands(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection, decrypted. OSError where the handshake failed; it is closed then, as when it is cancelled."""
        reader = asyncio.StreamReader(limit=_AT_ONCE_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=GOODBYE_S,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: asyncio.Task[bytes] | None = None
) -> None:
    """All that comes, in its order, no faster than it is taken; first what was read already."""
    with suppress(OSError, asyncio.IncompleteReadError):
        data = await (first or reader.read(_AT_ONCE_BYTES))
        while data:
            writer.write(data)
            await writer.drain()
            data = await reader.read(_AT_ONCE_BYTES)
