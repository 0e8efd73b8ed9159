"""What can be set about the server: how large a request may be, who may send one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AskSettings:
    """The settings of commands that ask. An option goes before its variable, the variable before the default."""

    server: str = "http://127.0.0.1:4318"
    """LAYERLINE_SERVER (``http://127.0.0.1:4318``): where commands ask."""
    token: str | None = None
    """LAYERLINE_TOKEN (none): sent as ``Authorization: Bearer``."""

    @classmethod
    def of(
        cls, server: str | None = None, token: str | None = None, environment: Mapping[str, str] = os.environ
    ) -> AskSettings:
        """The settings of these options and this environment."""
        return cls(
            server=server or environment.get("LAYERLINE_SERVER") or cls().server,
            token=token or environment.get("LAYERLINE_TOKEN") or None,
        )


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The server's settings."""

    token: str | None = None
    """LAYERLINE_TOKEN (none): requests must carry ``Authorization: Bearer TOKEN``; needed beyond loopback."""
    token_read: str | None = None
    """LAYERLINE_TOKEN_READ (none): a token that may only ask: questions, SQL, pages."""
    token_write: str | None = None
    """LAYERLINE_TOKEN_WRITE (none): a token that may only send: spans, readings, logs, events."""
    tls_cert: Path | None = None
    """LAYERLINE_TLS_CERT (none): the certificate, in PEM, with which gRPC is served over TLS; HTTP never is."""
    tls_key: Path | None = None
    """LAYERLINE_TLS_KEY (none): the key of that certificate, in PEM, without a passphrase."""
    notify: tuple[str, ...] = ()
    """LAYERLINE_NOTIFY (none): the addresses, and all below them, that monitors may write to, separated by commas;
    without it any where there is a token, and none where there is none."""
    capture: str = ""
    """LAYERLINE_CAPTURE (none): what may carry secrets and is stored all the same: any of ``url.query``,
    ``db.query.text``, ``http.header``, or ``all``."""
    loopback_only: bool = True
    """Whether every address it listens on for HTTP is this machine's own (follows from ``--listen``)."""
    body_limit_bytes: int = 16 * 2**20
    """How long a request's body may be as sent."""
    inflated_limit_bytes: int = 64 * 2**20
    """How long a request's body may be once decompressed."""
    receive_at_once: int = 16
    """How many OTLP requests are read and stored at a time; more are told to come back (503)."""

    @property
    def has_token(self) -> bool:
        """Whether requests must carry a token at all."""
        return any(token is not None for token in (self.token, self.token_read, self.token_write))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ServerSettings:
        """The settings that the environment names, defaults for the others."""
        certificate, key = environment.get("LAYERLINE_TLS_CERT"), environment.get("LAYERLINE_TLS_KEY")
        named = (address.strip() for address in environment.get("LAYERLINE_NOTIFY", "").split(","))
        return cls(
            token=environment.get("LAYERLINE_TOKEN") or None,
            token_read=environment.get("LAYERLINE_TOKEN_READ") or None,
            token_write=environment.get("LAYERLINE_TOKEN_WRITE") or None,
            notify=tuple(address for address in named if address),
            capture=environment.get("LAYERLINE_CAPTURE", ""),
            tls_cert=Path(certificate) if certificate else None,
            tls_key=Path(key) if key else None,
        )
