"""Agents over HTTP: ``POST /mcp`` speaks the Model Context Protocol (streamable HTTP, without sessions)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from flask import Blueprint, Flask, Response, current_app, request
from pydantic import BaseModel, ConfigDict
from werkzeug.test import EnvironBuilder, run_wsgi_app

from layerline_api.declared import JSON, PROBLEM, declared
from layerline_api.problems import Problem
from layerline_api.shared import Shared

if TYPE_CHECKING:
    from layerline_api.mcp.tools import Ask

#: Agents that are answered at a time: the other threads are for those who receive and ask.
AT_ONCE = 4
_TOLD = ("Authorization", "Host")


class Message(BaseModel):
    """A message of JSON-RPC: a request has an ``id`` and is answered, a notification has none."""

    model_config = ConfigDict(extra="allow")

    jsonrpc: Literal["2.0"]
    method: str
    id: int | str | None = None
    params: dict[str, Any] | None = None


def blueprint(_: Shared) -> Blueprint:
    """``/mcp``."""
    blueprint = Blueprint("mcp", __name__)
    room = threading.BoundedSemaphore(AT_ONCE)

    @blueprint.post("/mcp")
    @declared(
        dict[str, Any], None, body=Message, problems=(202, 404, 503), problems_in=(PROBLEM, JSON), operation_id="mcp"
    )
    def mcp(body: Message) -> Response:
        """Ask as an agent does: one message of the Model Context Protocol, in JSON-RPC.

        The tools are incidents, why, request, changes, timeline, containers and coverage (`layerline docs asked`).
        """
        try:
            from layerline_api.mcp.server import answered, server_of
            from layerline_api.mcp.tools import Tools
        except ModuleNotFoundError as missing:
            if (missing.name or "").startswith("layerline"):
                raise
            raise Problem(
                404, "agents cannot ask here: the package mcp is not installed; pip install 'layerline[mcp]'"
            ) from None
        if not room.acquire(blocking=False):
            raise Problem(503, f"{AT_ONCE} agents are being answered; ask again later")
        try:
            tools = Tools(_asking_here(current_app._get_current_object()), request.host_url)  # type: ignore[attr-defined]
            status, headers, content = answered(
                server_of(tools), "POST", "/mcp", _headers(), body.model_dump_json(exclude_unset=True).encode()
            )
        finally:
            room.release()
        kept = {name: text for name, text in headers.items() if name.lower() != "content-length"}
        answer = Response(content, status, {"Content-Type": JSON, **kept})
        if not content:
            del answer.headers["Content-Type"]
        return answer

    return blueprint


def _headers() -> dict[str, str]:
    """What was sent; whoever does not say so takes JSON as well: there is nothing else."""
    sent = {name.lower(): text for name, text in request.headers.items()}
    return {**sent, "accept": f"{JSON}, text/event-stream"}


def _asking_here(app: Flask) -> Ask:
    """Ask this server's own API, as whoever sent this request: what they may not ask is refused."""
    from layerline_api.mcp.tools import Refused

    told = {name: request.headers[name] for name in _TOLD if name in request.headers}
    beside = {key: value for key, value in request.environ.items() if key.startswith("waitress.")}

    def ask(path: str, given: Sequence[tuple[str, str]]) -> Any:
        with_token = EnvironBuilder(path, query_string=dict(given), headers=told.items(), environ_base=beside)
        content, status, _ = run_wsgi_app(app.wsgi_app, with_token.get_environ(), buffered=True)
        with_token.close()
        answer = Response(b"".join(content), status, content_type=JSON)
        if answer.status_code != 200:
            raise Refused(str((answer.get_json(silent=True) or {}).get("detail") or status))
        return answer.json

    return ask
