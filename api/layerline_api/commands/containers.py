"""Which containers a tag query holds for, the dead included, and how slow their requests were.

Exit codes: 0 answered, 1 nothing to answer with (the reason on stderr), 2 could not ask.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import set_cell_size
from rich.text import Text

from layerline_api.commands.asking import NoAnswer, Server, ask, body_of, print_body, print_lines, with_server
from layerline_api.commands.render import WIDTH, cut, fitted, wrapped
from layerline_api.words.clean import clean
from layerline_api.words.verdict import human

Json = dict[str, Any]

_NAME = 19
#: The other columns, right-aligned.
_COLUMNS = {"value": 12, "group": 12, "ratio": 7, "requests": 9, "p50": 8, "p95": 8, "slow": 5}
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


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


def table(body: Json) -> Iterator[Text]:
    """The containers, the worst first, and below them those that were not measured."""
    if body["items"]:
        yield fitted(f"{_when(body['from'])} to {_when(body['to'])} UTC", WIDTH)
        yield Text()
        titles = "".join(title.rjust(width) for title, width in _COLUMNS.items())
        yield Text(f"{'container':<{_NAME}}{titles}", style="bold")
    for item in body["items"]:
        yield from _container(item)
    if body.get("next"):
        yield Text(f"There are more than {len(body['items'])}: narrow the query, or ask for JSON page by page.")
    unknown = body["not_measured"]
    if unknown["items"]:
        yield Text()
        yield Text(f"not measured: {unknown['count']}", style="bold")
        for item in unknown["items"]:
            yield from wrapped(
                f"{clean(item['entity']['name'])}{_gone(item)}, {item['signal']}: "
                f"{clean(item['reason']).removeprefix('not measured: ')}",
                indent=2,
            )


def _container(item: Json) -> Iterator[Text]:
    compared = item["comparisons"]
    unit = compared[0]["unit"] if compared else ""
    served = item["requests"]
    cells = (
        amount(item["value"], unit) if compared else "",
        "" if item["group_value"] is None else amount(item["group_value"], unit),
        "" if item["ratio"] is None else f"{item['ratio']:.2f}",
        "–" if served is None else f"{served['count']:,}",
        _duration(served, "p50_ns"),
        _duration(served, "p95_ns"),
        "–" if served is None or served["slow_ratio"] is None else f"{served['slow_ratio'] * 100:.0f} %",
    )
    name = set_cell_size(cut(clean(item["entity"]["name"]), _NAME - 1), _NAME)
    numbers = "".join(cell.rjust(width) for cell, width in zip(cells, _COLUMNS.values(), strict=True))
    yield fitted(f"{name}{numbers}".rstrip(), WIDTH)
    about = [
        _gone(item).strip(" ()"),
        f"image {clean(item['image'])}" if item["image"] else "",
        f"on {clean(item['host']['name'])}" if item["host"] else "",
        *(f"{one['signal']} {amount(one['value'], one['unit'])}" for one in compared[1:]),
    ]
    yield from (Text(line.plain, style="dim") for line in wrapped(", ".join(filter(None, about)), indent=2))


def amount(value: float, unit: str) -> str:
    """A figure as people say it: ``812 MiB``, ``120 ms/s``, ``12 %``, ``3.4 /s``."""
    base, slash, _ = unit.partition("/")
    if base == "ns":
        return human(value) + ("/s" if slash else "")
    if base == "By":
        power = 0
        while abs(value) >= 1024 and power < len(_SIZES) - 1:
            value, power = value / 1024, power + 1
        return f"{value:.{0 if power == 0 or value >= 100 else 1}f} {_SIZES[power]}{'/s' if slash else ''}"
    if base == "1":
        return f"{value * 100:.1f} %"
    return f"{value:,.4g}{' /s' if slash else ''}"


def _duration(served: Json | None, figure: str) -> str:
    return "–" if served is None or served[figure] is None else human(served[figure])


def _gone(item: Json) -> str:
    if item["gone"] is None:
        return " (not seen any more)"
    if not item["gone"]:
        return ""
    return f" (gone since {_when(item['to'])[11:]})" if "to" in item else " (gone)"


def _when(time: str) -> str:
    """``2026-11-23 10:00:00`` of an RFC 3339 time in UTC."""
    return clean(time)[:19].replace("T", " ")


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
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
