"""Ask with one SELECT over the views of `layerline docs sql`; needs a server that has a token."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from layerline.parsing import Parser
from layerline_api.asking import Server, ask, body_of, print_body, with_server
from layerline_api.words.clean import clean


def main(argv: Sequence[str]) -> int:
    """``layerline sql 'SELECT …' [--limit N] [--csv | --json]``."""
    options = _options(argv)
    text = sys.stdin.read() if options.query == "-" else options.query

    def question(server: Server, _: argparse.Namespace) -> None:
        answer = server.post("/api/v1/sql", {"sql": text, "limit": options.limit})
        if options.json:
            print_body(answer)
            return
        body = body_of(server, answer)
        columns, rows = body.get("columns"), body.get("rows")
        if not isinstance(columns, list) or not isinstance(rows, list):
            raise server.stranger()
        if options.csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([[_text(value) for value in row] for row in rows])
        else:
            _print_table(columns, rows)
        if body.get("cut"):
            print(f"layerline sql: there is more than these {len(rows)} rows; --limit shows more", file=sys.stderr)

    return ask("sql", options, question)


def _print_table(columns: list[Any], rows: list[Any]) -> None:
    numbers = [
        bool(rows) and all(isinstance(row[at], int | float) or row[at] is None for row in rows)
        for at in range(len(columns))
    ]
    table = Table(box=None, header_style="", pad_edge=False)
    for column, right in zip(columns, numbers, strict=True):
        table.add_column(clean(column), justify="right" if right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(clean(_text(value)) for value in row))
    # As wide as it is: a pipe to `less -S` shows what a terminal cannot.
    console = Console(width=None if sys.stdout.isatty() else 100_000, highlight=False, markup=False, emoji=False)
    console.print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="layerline sql", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("query", metavar="SELECT", help="the query; - reads it from standard input")
    parser.add_argument("--limit", type=int, default=1000, metavar="N", help="how many rows at most (default 1000)")
    parser.add_argument("--csv", action="store_true", help="comma-separated values with a header")
    with_server(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
