"""Who may ask: the token, and no other name for this machine when there is no token."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable

from flask import request

from layerline_api.declared import BODY_LIMIT_BYTES
from layerline_api.problems import Problem
from layerline_api.settings import ServerSettings

OPEN_PATH = "/healthz"
#: Webhooks of GitHub's cannot send a token; they sign their body with it.
SIGNED_PATH, SIGNATURE = "/api/v1/events", "X-Hub-Signature-256"
_OWN_NAME = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)


def holds_token(authorization: str, token: str) -> bool:
    """Whether that is ``Bearer TOKEN``, found out in a time that does not tell how much of it was right."""
    scheme, _, given = authorization.partition(" ")
    right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    return right and scheme.lower() == "bearer"


def guard(settings: ServerSettings) -> Callable[[], None]:
    """What to run before each request; ``Problem`` 401 or 403."""

    def with_token(token: str) -> None:
        if not holds_token(request.headers.get("Authorization", ""), token):
            raise Problem(401, "the token is missing or wrong; expected Authorization: Bearer TOKEN (LAYERLINE_TOKEN)")

    def signed(token: bytes) -> bool:
        given = request.headers.get(SIGNATURE, "").encode("latin-1", "replace")
        if request.path != SIGNED_PATH or not given:
            return False
        request.max_content_length = BODY_LIMIT_BYTES
        return hmac.compare_digest(
            given, b"sha256=" + hmac.new(token, request.get_data(), "sha256").hexdigest().encode()
        )

    def with_own_name() -> None:
        # A page of somebody else's whose name was made to point here (DNS rebinding) still sends that name.
        host = request.environ.get("HTTP_HOST")
        if host is not None and not _OWN_NAME.fullmatch(host):
            raise Problem(403, f"Host is {host[:80]!r}; without a token only localhost, 127.0.0.1 and [::1] are served")

    def before() -> None:
        if settings.token is not None:
            if request.path != OPEN_PATH and not signed(settings.token.encode()):
                with_token(settings.token)
        elif settings.loopback_only:
            with_own_name()

    return before
