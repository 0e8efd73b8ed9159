"""A trace as it was received, from the server: its spans as a tree, what failed in them, and its logs.

Exit codes: 0 answered, 1 nothing to answer with (the reason on stderr), 2 could not ask.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from layerline.parsing import Parser
from layerline_api.asking import Server, ask, body_of, print_body, trace_id, with_server
from layerline_api.terminal.text import print_lines
from layerline_api.terminal.traces import lines_of_trace
from layerline_api.words.traces import tell

COMMAND = "trace"


def main(argv: Sequence[str]) -> int:
    """``layerline trace TRACE_ID [--attributes] [--json]``."""
    return ask("trace", _options(argv), _show)


def _show(server: Server, options: argparse.Namespace) -> None:
    answer = server.get(f"/api/v1/traces/{options.trace_id}")
    trace = body_of(server, answer)
    if options.json:
        print_body(answer)
        return
    try:
        lines = lines_of_trace(tell(trace), attributes=options.attributes)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise server.stranger() from None
    print_lines(lines)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="layerline trace", description="The spans of a trace, what failed in them, and its logs.")
    parser.add_argument("trace_id", type=trace_id, metavar="TRACE_ID", help="or its page's address")
    parser.add_argument(
        "--attributes", action="store_true", help="with attributes, events, stack traces and links of every span"
    )
    with_server(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
