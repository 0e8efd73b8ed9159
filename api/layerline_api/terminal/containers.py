"""The answer to a tag query as a table, and below it the containers that were not measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.cells import set_cell_size
from rich.text import Text

from layerline_api.terminal.text import WIDTH, cut, fitted, wrapped
from layerline_api.words.amounts import amount
from layerline_api.words.clean import clean
from layerline_api.words.containers import duration, slow_share

Json = Mapping[str, Any]

#: The other columns, right-aligned; the name has what is left.
_COLUMNS = {"value": 12, "group": 12, "ratio": 7, "requests": 9, "p50": 8, "p95": 8, "slow": 5}
_NAME = max(12, WIDTH - sum(_COLUMNS.values()))


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
        duration(served, "p50_ns"),
        duration(served, "p95_ns"),
        slow_share(served),
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


def _gone(item: Json) -> str:
    if item["gone"] is None:
        return " (not seen any more)"
    if not item["gone"]:
        return ""
    return f" (gone since {_when(item['to'])[11:]})" if "to" in item else " (gone)"


def _when(time: str) -> str:
    """``2026-11-23 10:00:00`` of an RFC 3339 time in UTC."""
    return clean(time)[:19].replace("T", " ")
