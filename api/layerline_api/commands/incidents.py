"""What was in trouble lately, since when, why, and what changed just before: incidents, found without being asked.

Exit codes: 0 answered, 1 nothing to answer with (the reason on stderr), 2 could not ask.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from layerline.parsing import Parser
from layerline_api.asking import (
    CannotAsk,
    NoAnswer,
    Server,
    ask,
    body_of,
    causes_of,
    incident_id,
    print_body,
    with_server,
)
from layerline_api.terminal.incidents import lines_of_incident, lines_of_list
from layerline_api.terminal.text import print_lines


def main(argv: Sequence[str]) -> int:
    """``layerline incidents [ID] [--since …] [--state …] [--json]``."""
    options = _options(argv)
    return ask("incidents", options, _one if options.id else _list)


def _one(server: Server, options: argparse.Namespace) -> None:
    if options.bundle is not None:
        bundle = server.get(f"/api/v1/incidents/{options.id}/bundle").content
        try:
            with open(options.bundle, "wb") as file:
                file.write(bundle)
        except OSError as problem:
            raise CannotAsk(f"{options.bundle} cannot be written: {problem.strerror}") from None
        print(f"{options.bundle}: {len(bundle):,} bytes; see it elsewhere with: layerline replay {options.bundle}")
        return
    answer = server.get(f"/api/v1/incidents/{options.id}")
    incident = body_of(server, answer)
    if options.json:
        print_body(answer)
        return
    try:
        lines = lines_of_incident(incident, causes_of(server))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise server.stranger() from None
    print_lines(lines)


def _list(server: Server, options: argparse.Namespace) -> None:
    given = {
        "since": options.since or (None if options.begin or options.to else "24h"),
        "from": options.begin,
        "to": options.to,
        "service": options.service,
        "operation": options.operation,
        "state": options.state,
    }
    answer = server.get("/api/v1/incidents", [(name, text) for name, text in given.items() if text is not None])
    body = body_of(server, answer)
    if not isinstance(body.get("items"), list):
        raise server.stranger()
    if options.json:
        print_body(answer)
    if not body["items"]:
        raise NoAnswer(str(body.get("reason") or "there was no incident in the window"))
    if not options.json:
        try:
            lines = lines_of_list(body["items"], is_all=not body.get("next"))
        except (LookupError, TypeError, ValueError, AttributeError):
            raise server.stranger() from None
        print_lines(lines)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="layerline incidents", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("id", nargs="?", type=incident_id, metavar="ID", help="12 hex digits; without, a list")
    parser.add_argument("--since", metavar="24h", help="the window: that long until now (default 24h)")
    parser.add_argument("--from", dest="begin", metavar="T", help="the window's begin, such as 2026-11-23T10:00:00Z")
    parser.add_argument("--to", metavar="T", help="the window's end")
    parser.add_argument("--service", metavar="S")
    parser.add_argument("--operation", metavar="O")
    parser.add_argument("--state", choices=("open", "ended"))
    parser.add_argument("--bundle", metavar="FILE", help="with ID: write all that is needed to judge it elsewhere")
    with_server(parser)
    options = parser.parse_args(argv)
    of_window = ("since", "begin", "to", "service", "operation", "state")
    if options.id and any(getattr(options, name) is not None for name in of_window):
        parser.error("ID names one incident; the other options choose among them")
    if options.bundle is not None and not options.id:
        parser.error("--bundle needs the ID of an incident")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
