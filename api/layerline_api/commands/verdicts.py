"""Why a request was slow, or what changed in a window: the verdict, from the server.

Exit codes: 0 answered, 1 nothing to answer with (the reason on stderr), 2 could not ask.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from layerline.parsing import Parser
from layerline_api.asking import (
    NoAnswer,
    Server,
    ask,
    body_of,
    causes_of,
    print_body,
    trace_id,
    with_server,
)
from layerline_api.terminal.text import print_lines
from layerline_api.terminal.verdicts import request, window
from layerline_api.words.verdicts import Story, tell

COMMAND = "why"


def main(argv: Sequence[str]) -> int:
    """``layerline why [TRACE_ID] [--service S] … [--json]``."""
    options = _options(argv)
    return ask("why", options, _one if options.trace_id else _window)


def _one(server: Server, options: argparse.Namespace) -> None:
    """One request's verdict."""
    path = f"/api/v1/requests/{options.trace_id}"
    answer = server.get(path, [("rank", "lost")] if options.absolute else [])
    verdict = body_of(server, answer)
    if options.json:
        print_body(answer)
    else:
        print_lines(request(_story(server, verdict, causes_of(server))))


def _window(server: Server, options: argparse.Namespace) -> None:
    """A verdict for each service and operation that changed, failed or had slow requests in the window."""
    given = {
        "since": options.since,
        "from": options.begin,
        "to": options.to,
        "service": options.service,
        "operation": options.operation,
        "against": options.against,
        "rank": "lost" if options.absolute else None,
    }
    parameters = [(name, text) for name, text in given.items() if text is not None]
    answer = server.get("/api/v1/verdicts", [*parameters, *(("tag", tag) for tag in options.tag)])
    body = body_of(server, answer)
    if not isinstance(body.get("items"), list):
        raise server.stranger()
    if options.json:
        print_body(answer)
    if not body["items"]:
        raise NoAnswer(str(body.get("reason") or "nothing changed in the window"))
    if not options.json:
        causes = causes_of(server)
        lines = window([_story(server, verdict, causes) for verdict in body["items"]])
        if body.get("next"):
            lines += [Text(), Text(f"There are more than {len(body['items'])}; narrow with --service or --operation.")]
        print_lines(lines)


def _story(server: Server, verdict: dict[str, Any], causes: list[dict[str, Any]]) -> Story:
    try:
        return tell(verdict, causes)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise server.stranger() from None


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="layerline why",
        description="Why a request was slow; without TRACE_ID, what changed in a window, and why.",
    )
    parser.add_argument("trace_id", nargs="?", type=trace_id, metavar="TRACE_ID", help="or its page's address")
    parser.add_argument("--service", metavar="S")
    parser.add_argument("--operation", metavar="O")
    parser.add_argument("--since", metavar="15m", help="the window: that long until now (default 15m)")
    parser.add_argument("--from", dest="begin", metavar="T", help="the window's begin, such as 2026-11-23T10:00:00Z")
    parser.add_argument("--to", metavar="T", help="the window's end")
    parser.add_argument(
        "--against",
        metavar="FROM/TO",
        help="what to compare with; yesterday or last-week for the same hours (default: right before the window)",
    )
    parser.add_argument(
        "--tag", action="append", default=[], metavar="KEY:VALUE", help="tags, as in `layerline docs query`; repeatable"
    )
    parser.add_argument("--absolute", action="store_true", help="rank by time lost, without comparing")
    with_server(parser)
    options = parser.parse_args(argv)
    of_window = ("service", "operation", "since", "begin", "to", "against")
    if options.trace_id and (options.tag or any(getattr(options, name) is not None for name in of_window)):
        parser.error("TRACE_ID names one request; the other options name a window")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
