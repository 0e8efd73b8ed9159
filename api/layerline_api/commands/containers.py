"""Which containers a tag query holds for, the dead included, and how slow their requests were.

Exit codes: 0 answered, 1 nothing to answer with (the reason on stderr), 2 could not ask.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from layerline.parsing import Parser
from layerline_api.asking import NoAnswer, Server, ask, body_of, print_body, with_server
from layerline_api.terminal.containers import table
from layerline_api.terminal.text import print_lines


def main(argv: Sequence[str]) -> int:
    """``layerline containers 'QUERY' [--to T] [--json]``."""
    return ask("containers", _options(argv), _ask)


def _ask(server: Server, options: argparse.Namespace) -> None:
    window = [] if options.to is None else [("to", options.to)]
    answer = server.get("/api/v1/containers", [("q", options.query), *window])
    body = body_of(server, answer)
    try:
        lines = list(table(body))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise server.stranger() from None
    if options.json:
        print_body(answer)
    elif lines:
        print_lines(lines)
    if not body["items"]:
        raise NoAnswer(str(body.get("reason") or "it holds for no container"))


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="layerline containers",
        description="Which containers the query holds for, and how slow their requests were (`layerline docs query`)",
        epilog="example: layerline containers 'image:web memory.working_set > 1.5 * avg(memory.working_set) over 15m'",
    )
    parser.add_argument("query", metavar="QUERY", help="tags, comparisons and a window, in quotes")
    parser.add_argument("--to", metavar="T", help="the window's end, such as 2026-11-23T10:00:00Z (default now)")
    with_server(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
