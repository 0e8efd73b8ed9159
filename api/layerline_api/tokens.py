"""Who may do what: tokens that may only write, only read, or both, and the tags bound to what they write.

``LAYERLINE_TOKENS`` names a file in TOML, a table for each token:

    [[token]]
    name = "vm-1"
    sha256 = "…"             # of the token, in hex; or token = "…"
    may = "write"            # "read", "write" or "both"
    tags = {zone = "a"}      # what it writes has these, whatever the sender says

``LAYERLINE_TOKEN`` is one more, which may do both. A token that may do both may also change what the server keeps
(monitors, objectives); one that may read asks, SQL included; one that may write sends OTLP and events.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from layerline.tags import HOST_WORDS

READ: Final = "read"
WRITE: Final = "write"
#: What a token may, by the word of the file.
_MAY: Final = {"read": frozenset({READ}), "write": frozenset({WRITE}), "both": frozenset({READ, WRITE})}
_KEYS: Final = frozenset({"name", "token", "sha256", "may", "tags"})
#: Shorter ones can be guessed.
SHORTEST: Final = 16
#: Sends OTLP or an event. Nothing else that is sent stores data.
_EVENTS: Final = "/api/v1/events"
#: Asks, though it is sent: the question is in the body.
_QUESTIONS: Final = frozenset({"/api/v1/sql", "/mcp"})


class BadTokens(ValueError):
    """The file of tokens cannot be used; the message names it and the token, what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token. It is kept as its digest, so that no time and no dump tells it."""

    name: str
    digest: bytes = field(repr=False)
    may: frozenset[str] = _MAY["both"]
    tags: Mapping[str, str] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)
    """The token itself, where it is known: webhooks sign with it."""

    @classmethod
    def of(cls, name: str, secret: str) -> Token:
        """A token that may do both."""
        return cls(name, digest(secret), secret=secret)


def digest(secret: str) -> bytes:
    """SHA-256 of a token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def holder(authorization: str, tokens: Iterable[Token]) -> Token | None:
    """Whose token ``Bearer TOKEN`` holds; all are compared, in a time that does not tell how much was right."""
    scheme, _, given = authorization.partition(" ")
    found = hashlib.sha256(given.strip().encode("latin-1", "replace")).digest()
    right = [token for token in tokens if hmac.compare_digest(token.digest, found)]
    return right[0] if right and scheme.lower() == "bearer" else None


def known(secret: str, tokens: Iterable[Token]) -> Token | None:
    """Whose token this is; all are compared, in a time that does not tell how much was right."""
    found = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
    right = [token for token in tokens if hmac.compare_digest(token.digest, found)]
    return right[0] if right else None


def needed(method: str, path: str) -> frozenset[str]:
    """What a request over HTTP needs to be allowed."""
    if path.startswith("/v1/") or (path == _EVENTS and method == "POST"):
        return _MAY["write"]
    if method in ("GET", "HEAD", "OPTIONS") or path in _QUESTIONS:
        return _MAY["read"]
    return _MAY["both"]


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file. ``BadTokens``."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise BadTokens(f"LAYERLINE_TOKENS: {path} cannot be read: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BadTokens(f"LAYERLINE_TOKENS: {path}: expected TOML: {problem}") from None
    tables = content.pop("token", [])
    if content or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        found = ", ".join(content) or "something else"
        raise BadTokens(f"LAYERLINE_TOKENS: {path}: expected tables [[token]] only, found {found}")
    tokens = [_token(f"LAYERLINE_TOKENS: {path}: token {place}", table) for place, table in enumerate(tables, 1)]
    for place, token in enumerate(tokens, 1):
        for other in tokens[: place - 1]:
            if token.name == other.name or token.digest == other.digest:
                raise BadTokens(
                    f"LAYERLINE_TOKENS: {path}: token {place}: {token.name!r} and {other.name!r} are the same"
                )
    return tuple(tokens)


def _token(where: str, table: Mapping[str, Any]) -> Token:
    """One table of the file."""
    if unknown := sorted(set(table) - _KEYS):
        raise BadTokens(f"{where}: expected {', '.join(sorted(_KEYS))}; found {', '.join(unknown)}")
    name = table.get("name")
    if not isinstance(name, str) or not name or not name.isprintable():
        raise BadTokens(f"{where}: expected a name")
    where = f"{where} ({name})"
    may = table.get("may")
    if not isinstance(may, str) or may not in _MAY:
        raise BadTokens(f"{where}: may: expected read, write or both, found {may!r}")
    secret, sha256 = table.get("token"), table.get("sha256")
    if (secret is None) == (sha256 is None):
        raise BadTokens(f"{where}: expected either token or sha256")
    if secret is not None and (not isinstance(secret, str) or len(secret) < SHORTEST or not secret.isascii()):
        raise BadTokens(f"{where}: expected a token of at least {SHORTEST} characters of ASCII: openssl rand -hex 32")
    if sha256 is not None and (not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256)):
        raise BadTokens(f"{where}: sha256: expected 64 hex digits: printf %s TOKEN | sha256sum")
    tags = table.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) and value for value in tags.values()):
        raise BadTokens(f'{where}: tags: expected a table of texts, such as {{zone = "a"}}')
    return Token(
        name,
        digest(secret) if isinstance(secret, str) else bytes.fromhex(str(sha256)),
        _MAY[may],
        {HOST_WORDS.get(str(key), str(key)): value for key, value in tags.items()},
        secret if isinstance(secret, str) else None,
    )
