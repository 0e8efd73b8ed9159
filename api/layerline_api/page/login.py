"""Logging in where the server has a token, and out: one field for the token, kept as a cookie that is not the token."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint, Response, render_template, request
from pydantic import Field

from layerline_api.declared import BODY_LIMIT_BYTES, FORM, PROBLEM, declared
from layerline_api.guard import COOKIE, SESSION_S, check_origin, session
from layerline_api.page.form import HTML
from layerline_api.parameters import Parameters, Read
from layerline_api.shared import Shared
from layerline_api.tokens import READ, known

_TEXT = "text/plain; charset=utf-8"


class Where(Parameters):
    """Where to go then."""

    next: Annotated[
        str,
        Read(lambda _, text: text, {"type": "string"}, ("/map", "/services")),
        Field(description="a page of this server"),
    ] = "/"


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/login`` and ``/logout``."""

    @blueprint.get("/login")
    @declared(None, Where, answers_in=(HTML,))
    def login_page(asked: Where) -> Response:
        """The page to log in on."""
        return _page(own(asked.next), "")

    @blueprint.post("/login")
    @declared(None, Where, status=303, answers_in=(_TEXT,), body_in=(FORM,), own_form=True, problems_in=(HTML, PROBLEM))
    def log_in(asked: Where) -> Response:
        """Take a token and answer with a cookie that stands for it."""
        check_origin()
        request.max_content_length = BODY_LIMIT_BYTES
        given = request.form.get("token", "")
        if not shared.settings.all_tokens:
            return _to(own(asked.next))
        token = known(given, shared.settings.all_tokens)
        if token is None:
            return _page(own(asked.next), "This is not the token of this server.")
        if READ not in token.may:
            return _page(own(asked.next), "This token may only send, not read.")
        response = _to(own(asked.next))
        response.set_cookie(
            COOKIE, session(token), max_age=SESSION_S, httponly=True, samesite="Strict", secure=_is_secure(), path="/"
        )
        return response

    @blueprint.post("/logout")
    @declared(None, status=303, answers_in=(_TEXT,))
    def log_out() -> Response:
        """Forget the cookie."""
        check_origin()
        response = _to("/login")
        response.delete_cookie(COOKIE, httponly=True, samesite="Strict", secure=_is_secure(), path="/")
        return response

    def _page(following: str, wrong: str) -> Response:
        html = render_template("login.html", following=following, wrong=wrong, needs=bool(shared.settings.all_tokens))
        return Response(html, 401 if wrong else 200, content_type=HTML)


def own(address: str) -> str:
    """The address where it is a page of this server, else ``/``: nobody is led elsewhere by a link to the login."""
    is_own = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_own else "/"


def _to(address: str) -> Response:
    response = Response(f"{address}\n", 303, content_type=_TEXT)
    response.headers["Location"] = address
    return response


def _is_secure() -> bool:
    """Whether the browser came by HTTPS, which a proxy says."""
    return request.is_secure or request.headers.get("X-Forwarded-Proto") == "https"
