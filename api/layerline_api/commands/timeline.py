"""What every layer did at the same moment, one line for each series, from the server.

Exit codes: 0 answered, 1 nothing to answer with (the reason on stderr), 2 could not ask.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from layerline.parsing import Parser
from layerline_api.asking import NoAnswer, Server, ask, body_of, print_body, trace_id, with_server
from layerline_api.terminal.text import print_lines
from layerline_api.terminal.timeline import picture


def main(argv: Sequence[str]) -> int:
    """``layerline timeline [TRACE_ID] [--service S] [--operation O] [--entity TYPE:NAME] … [--json]``."""
    return ask("timeline", _options(argv), _ask)


def _ask(server: Server, options: argparse.Namespace) -> None:
    given = {
        "trace_id": options.trace_id and options.trace_id,
        "service": options.service,
        "operation": options.operation,
        "entity": options.entity,
        "since": options.since,
        "from": options.begin,
        "to": options.to,
        "step": options.step,
        "signal": ",".join(options.signal) or None,
    }
    parameters = [(name, text) for name, text in given.items() if text is not None]
    answer = server.get("/api/v1/timeline", [*parameters, *(("tag", tag) for tag in options.tag)])
    body = body_of(server, answer)
    try:
        lines = picture(body)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise server.stranger() from None
    if options.json:
        print_body(answer)
    if body["reason"] is not None:
        raise NoAnswer(str(body["reason"]))
    if not options.json:
        print_lines(lines)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="layerline timeline",
        description="What every layer did at the same moment: requests, causes, containers, machines, events.",
    )
    parser.add_argument(
        "trace_id", nargs="?", type=trace_id, metavar="TRACE_ID", help="one request and a little around it"
    )
    parser.add_argument("--service", metavar="S")
    parser.add_argument("--operation", metavar="O")
    parser.add_argument("--entity", metavar="TYPE:NAME", help="container:NAME_OR_ID or host:NAME_OR_ID")
    parser.add_argument(
        "--tag", action="append", default=[], metavar="KEY:VALUE", help="tags, as in `layerline docs query`; repeatable"
    )
    parser.add_argument("--since", metavar="15m", help="the window: that long until now (default 15m)")
    parser.add_argument("--from", dest="begin", metavar="T", help="the window's begin, such as 2026-11-23T10:00:00Z")
    parser.add_argument("--to", metavar="T", help="the window's end")
    parser.add_argument("--step", metavar="10s", help="default: what gives at most 240 points")
    parser.add_argument(
        "--signal", action="append", default=[], metavar="NAME", help="readings to show, * matches any; repeatable"
    )
    with_server(parser)
    options = parser.parse_args(argv)
    if options.trace_id and (options.tag or options.service or options.operation or options.entity):
        parser.error("TRACE_ID names one request; --service, --operation, --entity and --tag choose among many")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
