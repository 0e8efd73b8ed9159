"""What can be set about the server: how large a request may be, who may send one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from layerline.lines import as_text_or_json
from layerline_api.tokens import Token, read_tokens


@dataclass(frozen=True, slots=True)
class AskSettings:
    """The settings of commands that ask. An option goes before its variable, the variable before the default."""

    server: str = "http://127.0.0.1:4318"
    """LAYERLINE_SERVER (``http://127.0.0.1:4318``): where commands ask."""
    token: str | None = None
    """LAYERLINE_TOKEN (none): sent as ``Authorization: Bearer``."""
    tls_ca: str | None = None
    """LAYERLINE_TLS_CA (the system's): certificates of authorities, in PEM, that the server's certificate is checked
    with."""

    @classmethod
    def of(
        cls, server: str | None = None, token: str | None = None, environment: Mapping[str, str] = os.environ
    ) -> AskSettings:
        """The settings of these options and this environment."""
        return cls(
            server=server or environment.get("LAYERLINE_SERVER") or cls().server,
            token=token or environment.get("LAYERLINE_TOKEN") or None,
            tls_ca=environment.get("LAYERLINE_TLS_CA") or None,
        )


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The server's settings."""

    token: str | None = None
    """LAYERLINE_TOKEN (none): requests must carry ``Authorization: Bearer TOKEN``; needed beyond loopback."""
    tokens: tuple[Token, ...] = ()
    """LAYERLINE_TOKENS (none): a TOML file of more tokens, each of which may only write, only read or both, and with
    tags bound to what it writes."""
    tls_cert: Path | None = None
    """LAYERLINE_TLS_CERT (none): the certificate, in PEM, with which HTTP and gRPC are served over TLS."""
    tls_key: Path | None = None
    """LAYERLINE_TLS_KEY (none): the key of that certificate, in PEM, without a passphrase."""
    notify: tuple[str, ...] = ()
    """LAYERLINE_NOTIFY (none): the addresses, and all below them, that monitors may write to, separated by commas;
    without it any where there is a token, and none where there is none."""
    capture: str = ""
    """LAYERLINE_CAPTURE (none): what may carry secrets and is stored all the same: any of ``url.query``,
    ``db.query.text``, ``http.header``, or ``all``."""
    listen: tuple[str, ...] = ()
    """LAYERLINE_LISTEN (``127.0.0.1:4318``): where to listen for HTTP, separated by commas; beyond loopback a token is
    needed; ``--listen``, which may be repeated, goes before it."""
    grpc_listen: tuple[str, ...] = ()
    """LAYERLINE_GRPC_LISTEN (``127.0.0.1:4317``, or none where ``LAYERLINE_LISTEN`` is set): where to listen for
    OTLP/gRPC, separated by commas, or ``off``; ``--grpc-listen``, which may be repeated, goes before it."""
    log: str = "text"
    """LAYERLINE_LOG (``text``): what is reported on stderr as lines of ``text``, or of ``json``."""
    loopback_only: bool = True
    """Whether every address it listens on for HTTP is this machine's own (follows from ``--listen``)."""
    body_limit_bytes: int = 16 * 2**20
    """How long a request's body may be as sent."""
    inflated_limit_bytes: int = 64 * 2**20
    """How long a request's body may be once decompressed."""
    receive_at_once: int = 16
    """How many OTLP requests are read and stored at a time; more are told to come back (503)."""

    @property
    def all_tokens(self) -> tuple[Token, ...]:
        """Every token that a request may carry; empty where none is needed."""
        return (*((Token.of("LAYERLINE_TOKEN", self.token),) if self.token is not None else ()), *self.tokens)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ServerSettings:
        """The settings that the environment names, defaults for the others. ValueError names the variable."""

        def listed(variable: str) -> tuple[str, ...]:
            return tuple(one.strip() for one in environment.get(variable, "").split(",") if one.strip())

        certificate, key = environment.get("LAYERLINE_TLS_CERT"), environment.get("LAYERLINE_TLS_KEY")
        tokens = environment.get("LAYERLINE_TOKENS")
        return cls(
            token=environment.get("LAYERLINE_TOKEN") or None,
            tokens=read_tokens(Path(tokens).expanduser()) if tokens else (),
            notify=listed("LAYERLINE_NOTIFY"),
            capture=environment.get("LAYERLINE_CAPTURE", ""),
            tls_cert=Path(certificate).expanduser() if certificate else None,
            tls_key=Path(key).expanduser() if key else None,
            listen=listed("LAYERLINE_LISTEN"),
            grpc_listen=listed("LAYERLINE_GRPC_LISTEN"),
            log=as_text_or_json(environment.get("LAYERLINE_LOG", "")),
        )
