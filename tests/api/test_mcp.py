"""Agents: the official client finds the culprit in a few calls, over HTTP and over standard input and output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest
from api_fake import TOKEN
from asked_store import REQUESTS, shop, trace_id
from live_server import serving
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from layerline_api.app import create_app
from layerline_api.commands import mcp as command
from layerline_api.mcp.said import MOST_BYTES, Said
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from waiting import PATIENCE_S

WINDOW = {"begin": "2026-11-23T10:05:00Z", "end": "2026-11-23T10:10:00Z"}
TOOLS = ["incidents", "why", "request", "changes", "timeline", "containers", "coverage"]
Calls = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def correlator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Correlator]:
    opened = shop(tmp_path_factory.mktemp("store"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def url(correlator: Correlator) -> Iterator[str]:
    with serving(correlator, ServerSettings(token=TOKEN)) as where:
        yield where


def asked(server: str | StdioServerParameters, calls: Calls, mode: str = "auto") -> tuple[list[str], list[Any]]:
    """The names of the tools, and the results of these calls, by the official client; over HTTP with the token."""

    async def ask() -> tuple[list[str], list[Any]]:
        token = {"Authorization": f"Bearer {TOKEN}"}
        with anyio.fail_after(PATIENCE_S):
            async with httpx2.AsyncClient(headers=token, timeout=PATIENCE_S) as http:
                over = streamable_http_client(f"{server}/mcp", http_client=http) if isinstance(server, str) else server
                async with Client(over, mode=mode) as client:
                    tools = await client.list_tools()
                    results = [await client.call_tool(name, arguments) for name, arguments in calls]
                    return [tool.name for tool in tools.tools], results

    return anyio.run(ask)


def text(result: Any) -> str:
    (content,) = result.content
    assert len(content.text.encode()) <= MOST_BYTES
    return str(content.text)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_culprit_is_found_in_two_calls(url: str, mode: str) -> None:
    """Incidents name it; the verdict of the window confirms it, says what to try, how sure it is and what is blind."""
    tools, (incidents, why) = asked(url, [("incidents", WINDOW), ("why", WINDOW)], mode)
    assert tools == TOOLS
    assert "container stock-1 held back by its CPU limit" in text(incidents)
    assert "container.cpu.limit is 0.1, was not set" in text(incidents)
    (incident,) = incidents.structured_content["items"]
    assert (incident["cause"], incident["entity"]["name"]) == ("container.cpu_throttled", "stock-1")
    assert incident["page"] == f"{url}/incidents/{incident['id']}"
    assert "Raise the CPU limit" in text(why)
    assert "How sure: Conclusive" in text(why)
    assert "Not measured: " in text(why)
    assert f"Page: {url}/?from=2026-11-23" in text(why)
    (culprit,) = why.structured_content["items"][0]["culprits"]
    assert culprit["cause"] == "container.cpu_throttled"


def test_every_tool_answers(url: str) -> None:
    """Each says something of the shop, small, with its page; what it says as data too is small."""
    last = trace_id(REQUESTS - 1)
    calls: Calls = [
        ("request", {"trace_id": last}),
        ("changes", {"begin": "2026-11-23T10:00:00Z", "end": "2026-11-23T10:10:00Z"}),
        ("timeline", {"begin": "2026-11-23T10:00:00Z", "end": "2026-11-23T10:10:00Z", "service": "web"}),
        ("containers", {"query": "container:stock-1", "end": "2026-11-23T10:10:00Z"}),
        ("coverage", WINDOW),
    ]
    _, results = asked(url, calls)
    said = dict(zip([name for name, _ in calls], results, strict=True))
    assert not any(result.is_error for result in results), [text(result) for result in results]
    assert "300 ms held back by its CPU limit" in text(said["request"])
    assert f"Page: {url}/requests/{last}" in text(said["request"])
    assert "container.update (container stock-1)" in text(said["changes"])
    assert "p95" in text(said["timeline"])
    assert "container stock-1; 120 requests, 60 slow" in text(said["containers"])
    assert "network: no readings were received" in text(said["coverage"])
    for result in results:
        assert len(json.dumps(result.structured_content)) < 10_000
        assert f"Page: {url}/" in text(result)


def test_what_cannot_be_answered_is_said(url: str) -> None:
    """An unknown trace, a window that is none and a wrong query are errors of the tool, in the API's words."""
    calls: Calls = [
        ("request", {"trace_id": "f" * 32}),
        ("why", {"since": "soon"}),
        ("containers", {"query": "memory.working_set >"}),
    ]
    _, results = asked(url, calls)
    assert all(result.is_error for result in results)
    assert "there is no request with trace id" in text(results[0])
    assert "since is 'soon'" in text(results[1])
    assert "column" in text(results[2])


def test_over_standard_input_and_output(url: str) -> None:
    """`layerline mcp` asks the server that it is told, and answers the same."""
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "layerline.command", "mcp", "--server", url],
        env={**os.environ, "LAYERLINE_TOKEN": TOKEN},
    )
    tools, (why,) = asked(server, [("why", {**WINDOW, "service": "stock"})])
    assert tools == TOOLS
    assert "container stock-1" in text(why)


def test_it_needs_the_token_and_json(correlator: Correlator) -> None:
    """As everywhere: a wrong token, another content type and nonsense are refused."""
    client = create_app(correlator, ServerSettings(token=TOKEN)).test_client()
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert client.post("/mcp", json=ping).status_code == 401
    told = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
    assert client.post("/mcp", json=ping, headers=told).json == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert client.post("/mcp", data="{", headers=told).status_code == 415
    assert client.post("/mcp", data="{", headers={**told, "Content-Type": "application/json"}).status_code == 400
    assert client.get("/mcp", headers=told).status_code == 405


def test_without_the_package_it_says_what_to_install(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server and a command without the extra name it."""
    monkeypatch.delitem(sys.modules, "layerline_api.mcp.server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    answer = create_app(correlator).test_client().post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert (answer.status_code, "layerline[mcp]" in answer.json["detail"]) == (404, True)
    assert command.main([]) == 2
    assert "pip install 'layerline[mcp]'" in capsys.readouterr().err


def test_the_command_refuses_what_is_no_address(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong address is said before the agent waits."""
    assert command.main(["--server", "ftp://x"]) == 2
    assert "expected http://HOST:PORT" in capsys.readouterr().err


def test_a_text_is_small_whatever_it_says() -> None:
    """What does not fit is left out from the end of the answer: sureness, what is blind and the page stay."""
    said = Said(["ü" * 300] * 50, "http://x/", ["sure " * 500], ["blind " * 100] * 30)
    assert len(said.text.encode()) <= MOST_BYTES
    assert said.text.endswith("Page: http://x/")
    assert "more lines: see the page" in said.text
    assert "How sure: " in said.text
    assert "and 27 more" in said.text
