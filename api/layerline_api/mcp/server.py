"""The tools as a server of the Model Context Protocol: over standard input and output, and over HTTP.

Source: specification 2025-11-25 and 2026-07-28, "Transports"; the official package ``mcp`` does the protocol. Over HTTP
there are no sessions: each POST is answered with JSON and stands for itself, so that a restart ends nobody's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import CallToolResult, TextContent, ToolAnnotations

from layerline_api.mcp.said import Said
from layerline_api.mcp.tools import Refused, Tools

_INSTRUCTIONS = (
    "Layerline says which layer (app, dependency, network, container, host) made responses slow. Begin with"
    " `incidents`, or with `why` for a window; `request` explains one trace. Answers say how sure they are and what was"
    " not measured: repeat both. Amounts that end in _ns are nanoseconds."
)


def server_of(tools: Tools) -> MCPServer[Any]:
    """A server that offers these tools. They only read."""
    made: MCPServer[Any] = MCPServer(
        name="layerline",
        title="Layerline",
        instructions=_INSTRUCTIONS,
        version=version("layerline"),
        log_level="WARNING",
        subscriptions=False,
    )
    for tool in tools.all():
        made.add_tool(
            _answering(tool),
            name=tool.__name__,
            description=tool.__doc__,
            annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
        )
    return made


def answered(
    server: MCPServer[Any], method: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """One HTTP request's status, headers and body."""
    return anyio.run(_answer, server, method, path, headers, body)


async def _answer(
    server: MCPServer[Any], method: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await anyio.sleep_forever()  # the client waits for its answer
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()],
    }
    # Names and tokens are looked at by our own guard.
    manager = StreamableHTTPSessionManager(server._lowlevel_server, json_response=True, stateless=True)
    async with manager.run():
        await manager.handle_request(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    content = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return start["status"], {name.decode(): text.decode("latin-1") for name, text in start.get("headers", ())}, content


def _answering(tool: Callable[..., Said]) -> Callable[..., CallToolResult]:
    """The tool with an answer in the protocol's form; its parameters stay as they are."""

    @functools.wraps(tool)
    def answering(*args: Any, **kwargs: Any) -> CallToolResult:
        try:
            said = tool(*args, **kwargs)
        except Refused as problem:
            return CallToolResult(content=[TextContent(type="text", text=str(problem)[:1_000])], is_error=True)
        return CallToolResult(content=[TextContent(type="text", text=said.text)], structured_content=said.data)

    answering.__annotations__ = {**tool.__annotations__, "return": CallToolResult}
    return answering
