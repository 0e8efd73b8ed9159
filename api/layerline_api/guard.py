"""Who may ask and who may send: tokens, a browser's login, and no other name for this machine when there is no token.

A browser that logged in holds a cookie instead of the token: when it ends, signed with the token. So it ends with the
token too, and nobody learns the token from it.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from flask import g, request

from layerline_api.declared import BODY_LIMIT_BYTES
from layerline_api.problems import Problem
from layerline_api.settings import ServerSettings
from layerline_api.tokens import READ, WRITE, Token, holder, needed

#: Where anybody may ask how far their clock is from this one.
CLOCK_PATH = "/healthz"
#: What anybody may ask for: whether the server lives, and the page to log in on with what it is drawn with.
OPEN_PATHS = frozenset((CLOCK_PATH, "/login", "/logout", "/style.css", "/page.js", "/icon.svg"))
#: Webhooks of GitHub's cannot send a token; they sign their body with it.
SIGNED_PATH, SIGNATURE = "/api/v1/events", "X-Hub-Signature-256"
COOKIE = "layerline_session"
#: How long a login lasts, in seconds.
SESSION_S = 7 * 24 * 3600
_OWN_NAME = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
#: Signs for tokens of which only the digest is known: who reads that file must not be able to.
_OF_THIS_START = secrets.token_bytes(32)


def bound_tags() -> Mapping[str, str]:
    """The tags bound to the token of the request that is being answered."""
    token: Token | None = g.get("token")
    return token.tags if token else {}


# ---- a browser's login


def session(token: Token, now_s: float | None = None) -> str:
    """The cookie for somebody who gave this token."""
    until_s = int(time.time() if now_s is None else now_s) + SESSION_S
    return f"{until_s}.{_signature(token, until_s)}"


def session_holder(cookie: str, tokens: Iterable[Token], now_s: float | None = None) -> Token | None:
    """The token that a cookie was made from, if it may read and the cookie has not ended."""
    until, _, signature = cookie.partition(".")
    if not re.fullmatch(r"[0-9]{1,12}", until, re.ASCII) or int(until) <= (time.time() if now_s is None else now_s):
        return None
    held = [
        token
        for token in tokens
        if READ in token.may and hmac.compare_digest(signature.encode(), _signature(token, int(until)).encode())
    ]
    return held[0] if held else None


def _signature(token: Token, until_s: int) -> str:
    key = token.digest + _OF_THIS_START if token.secret is None else token.secret.encode()
    return hmac.new(key, f"layerline session until {until_s}".encode(), "sha256").hexdigest()


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

    def with_token(tokens: Sequence[Token]) -> Token:
        authorization = request.headers.get("Authorization", "")
        token = holder(authorization, tokens)
        if token is None and not authorization:
            token = session_holder(request.cookies.get(COOKIE, ""), tokens)
            if token is not None and request.method not in ("GET", "HEAD"):
                check_origin()
        if token is None:
            raise Problem(401, "the token is missing or wrong; expected Authorization: Bearer TOKEN (LAYERLINE_TOKEN)")
        if missing := sorted(needed(request.method, request.path) - token.may):
            raise Problem(403, f"the token {token.name!r} may not {' or '.join(missing)}: this needs one that may")
        return token

    def signer(tokens: Sequence[Token]) -> Token | None:
        """Whose token a webhook signed its body with."""
        given = request.headers.get(SIGNATURE, "").encode("latin-1", "replace")
        if request.path != SIGNED_PATH or request.method != "POST" or not given:
            return None
        request.max_content_length = BODY_LIMIT_BYTES
        body, found = request.get_data(), None
        for token in tokens:
            if token.secret is not None and WRITE in token.may:
                expected = hmac.new(token.secret.encode(), body, "sha256").hexdigest()
                if hmac.compare_digest(given, f"sha256={expected}".encode()):
                    found = token
        return found

    def with_own_name() -> None:
        # A page of somebody else's whose name was made to point here (DNS rebinding) still sends that name.
        host = request.environ.get("HTTP_HOST")
        if host is not None and not _OWN_NAME.fullmatch(host):
            raise Problem(403, f"Host is {host[:80]!r}; without a token only localhost, 127.0.0.1 and [::1] are served")

    def before() -> None:
        if tokens := settings.all_tokens:
            if request.path not in OPEN_PATHS:
                g.token = signer(tokens) or with_token(tokens)
        elif settings.loopback_only:
            with_own_name()

    return before
