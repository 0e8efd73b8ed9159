"""Who may ask: the token, and no other name for this machine when there is no token."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence

from flask import g, request

from layerline_api.declared import BODY_LIMIT_BYTES
from layerline_api.problems import Problem
from layerline_api.settings import ServerSettings
from layerline_api.tokens import WRITE, Token, holder, needed

OPEN_PATH = "/healthz"
#: Webhooks of GitHub's cannot send a token; they sign their body with it.
SIGNED_PATH, SIGNATURE = "/api/v1/events", "X-Hub-Signature-256"
_OWN_NAME = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)


def bound_tags() -> Mapping[str, str]:
    """The tags bound to the token of the request that is being answered."""
    token: Token | None = g.get("token")
    return token.tags if token else {}


def guard(settings: ServerSettings) -> Callable[[], None]:
    """What to run before each request; ``Problem`` 401 or 403."""

    def with_token(tokens: Sequence[Token]) -> Token:
        token = holder(request.headers.get("Authorization", ""), tokens)
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
            if request.path != OPEN_PATH:
                g.token = signer(tokens) or with_token(tokens)
        elif settings.loopback_only:
            with_own_name()

    return before
