"""Who may ask and who may send: tokens, a browser's login, and no other name for this machine when there is no token.

Three tokens have different rights. One that reads asks questions and sees pages; one that writes sends spans, readings,
logs and events, and reads nothing; ``LAYERLINE_TOKEN`` does both, and alone changes what is kept (monitors, SLOs).

A browser that logged in holds a cookie instead of the token: when it ends, signed with the token. So it ends with the
token too, and nobody learns the token from it.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from flask import request

from layerline_api.declared import BODY_LIMIT_BYTES
from layerline_api.problems import Problem
from layerline_api.settings import ServerSettings

READ, WRITE = "read", "write"
Rights = frozenset[str]
NONE, ALL = Rights(), Rights((READ, WRITE))

#: What anybody may ask for: whether the server lives, and the page to log in on with what it is drawn with.
OPEN_PATHS = frozenset(("/healthz", "/login", "/logout", "/style.css", "/page.js", "/icon.svg"))
#: Webhooks of GitHub's cannot send a token; they sign their body with it.
SIGNED_PATH, SIGNATURE = "/api/v1/events", "X-Hub-Signature-256"
#: What is sent, and what asks though it is a POST; all else that is no GET changes something and needs all rights.
_SENDS = frozenset(("/v1/traces", "/v1/metrics", "/v1/logs", "/api/v1/events"))
_ASKS = frozenset(("/api/v1/sql",))

COOKIE = "layerline_session"
#: How long a login lasts, in seconds.
SESSION_S = 7 * 24 * 3600
_OWN_NAME = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)


def tokens(settings: ServerSettings) -> list[tuple[str, Rights]]:
    """The tokens that are set, and what each may do."""
    known = (
        (settings.token, ALL),
        (settings.token_read, Rights((READ,))),
        (settings.token_write, Rights((WRITE,))),
    )
    return [(token, rights) for token, rights in known if token is not None]


def rights_of(given: str, settings: ServerSettings) -> Rights:
    """What somebody with this token may do, found out in a time that does not tell how much of it was right."""
    held = [
        rights
        for token, rights in tokens(settings)
        if hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
    ]
    return NONE.union(*held)


def bearer_rights(authorization: str, settings: ServerSettings) -> Rights:
    """What ``Bearer TOKEN`` may do."""
    scheme, _, given = authorization.partition(" ")
    rights = rights_of(given.strip(), settings)
    return rights if scheme.lower() == "bearer" else NONE


# ---- a browser's login


def session(given: str, settings: ServerSettings, now_s: float | None = None) -> str:
    """The cookie for somebody who gave this token; "" where it may not read."""
    until_s = int(time.time() if now_s is None else now_s) + SESSION_S
    if READ not in rights_of(given, settings):
        return ""
    return f"{until_s}.{_signature(given, until_s)}"


def session_rights(cookie: str, settings: ServerSettings, now_s: float | None = None) -> Rights:
    """What the holder of a cookie may do: as much as the token that it was made from."""
    until, _, signature = cookie.partition(".")
    if not re.fullmatch(r"[0-9]{1,12}", until, re.ASCII) or int(until) <= (time.time() if now_s is None else now_s):
        return NONE
    held = [
        rights
        for token, rights in tokens(settings)
        if READ in rights and hmac.compare_digest(signature.encode(), _signature(token, int(until)).encode())
    ]
    return NONE.union(*held)


def _signature(token: str, until_s: int) -> str:
    return hmac.new(token.encode(), f"layerline session until {until_s}".encode(), "sha256").hexdigest()


def check_origin() -> None:
    """``Problem`` 403 where a page of somebody else's sent this form: the browser says from where it came."""
    origin = request.headers.get("Origin")
    if origin is None:  # no browser leaves it out of a POST
        return
    own = {request.host, request.headers.get("X-Forwarded-Host", request.host)}
    if urlsplit(origin).netloc not in own:
        raise Problem(403, f"this was sent by a page of {origin[:80]!r}, not of this server")


# ---- before each request


def guard(settings: ServerSettings) -> Callable[[], None]:
    """What to run before each request; ``Problem`` 401 or 403."""

    def signed() -> bool:
        given = request.headers.get(SIGNATURE, "").encode("latin-1", "replace")
        if request.path != SIGNED_PATH or not given:
            return False
        request.max_content_length = BODY_LIMIT_BYTES
        body = request.get_data()
        return any(
            hmac.compare_digest(given, b"sha256=" + hmac.new(token.encode(), body, "sha256").hexdigest().encode())
            for token, rights in tokens(settings)
            if WRITE in rights
        )

    def with_rights() -> None:
        authorization = request.headers.get("Authorization", "")
        rights = bearer_rights(authorization, settings)
        if not rights and not authorization:
            rights = session_rights(request.cookies.get(COOKIE, ""), settings)
            if rights and request.method not in ("GET", "HEAD"):
                check_origin()
        needed = _needed(request.method, request.path)
        if needed <= rights:
            return
        if rights:
            may = "read" if rights == {READ} else "send"
            raise Problem(403, f"this token may only {may}; this needs LAYERLINE_TOKEN, or a token that may")
        raise Problem(401, "the token is missing or wrong; expected Authorization: Bearer TOKEN (LAYERLINE_TOKEN)")

    def with_own_name() -> None:
        # A page of somebody else's whose name was made to point here (DNS rebinding) still sends that name.
        host = request.environ.get("HTTP_HOST")
        if host is not None and not _OWN_NAME.fullmatch(host):
            raise Problem(403, f"Host is {host[:80]!r}; without a token only localhost, 127.0.0.1 and [::1] are served")

    def before() -> None:
        if settings.has_token:
            if request.path not in OPEN_PATHS and not signed():
                with_rights()
        elif settings.loopback_only:
            with_own_name()

    return before


def _needed(method: str, path: str) -> Rights:
    if method in ("GET", "HEAD", "OPTIONS") or path in _ASKS:
        return Rights((READ,))
    return Rights((WRITE,)) if path in _SENDS else ALL
