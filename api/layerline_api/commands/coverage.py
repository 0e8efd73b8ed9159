"""What Layerline sees and what it does not: ``layerline coverage``, from the server.

Exit codes: 0 answered, 1 nothing was received (the reason on stderr), 2 could not ask.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from layerline.parsing import Parser
from layerline_api.asking import NoAnswer, Server, ask, body_of, print_body, with_server
from layerline_api.terminal.coverage import show
from layerline_api.terminal.text import print_lines


def main(argv: Sequence[str]) -> int:
    """``layerline coverage [--service S] [--since 15m | --from T --to T] [--json]``."""
    return ask("coverage", _options(argv), _ask)


def _ask(server: Server, options: argparse.Namespace) -> None:
    given = {"since": options.since, "from": options.begin, "to": options.to, "service": options.service}
    answer = server.get("/api/v1/coverage", [(name, text) for name, text in given.items() if text is not None])
    body = body_of(server, answer)
    if options.json:
        print_body(answer)
    if body.get("reason"):
        raise NoAnswer(str(body["reason"]))
    if not options.json:
        try:
            lines = show(body)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise server.stranger() from None
        print_lines(lines)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="layerline coverage",
        description=(
            "What was seen and what was not: how spans were tied to containers and machines, which readings arrive and "
            "with what gaps, which causes are blind and what to enable."
        ),
    )
    parser.add_argument("--service", metavar="S", help="only this service's spans, requests and blind causes")
    parser.add_argument("--since", metavar="15m", help="the window: that long until now (default 15m)")
    parser.add_argument("--from", dest="begin", metavar="T", help="the window's begin, such as 2026-11-23T10:00:00Z")
    parser.add_argument("--to", metavar="T", help="the window's end")
    with_server(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
