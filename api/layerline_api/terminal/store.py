"""What a store holds and takes: a line for the whole, one for each table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from layerline_api.words.amounts import amount
from layerline_api.words.clean import clean

Json = dict[str, Any]
_NAME = 18


def show(body: Json) -> list[Text]:
    """The sizes for people; tables without a row are left out."""
    return [*_whole(body), Text(), *_tables(body["tables"]), *_sealed(body["sealed"])]


def _whole(body: Json) -> Iterator[Text]:
    yield Text(f"store in {clean(body['folder'])}, version {body['version']}", style="bold")
    yield Text(
        f"on the disk      {amount(body['bytes'], 'By')}, of them {amount(body['log_bytes'], 'By')} in the log; "
        f"in use {amount(body['used_bytes'], 'By')}"
    )
    if body["oldest"] is None:
        yield Text("holds            nothing yet")
    else:
        yield Text(f"holds            from {_second(body['oldest'])} to {_second(body['newest'])}")
    yield Text(f"a span takes     {_figure(body['span_bytes'])}, its share of the ledgers included")
    yield Text(f"a container-day  {_figure(body['container_day_bytes'])} of readings, its machine's included")


def _tables(tables: list[Json]) -> Iterator[Text]:
    yield Text(f"{'table':<{_NAME}}{'rows':>14}{'bytes':>11}{'bytes/row':>11}  oldest", style="bold")
    for one in tables:
        if one["rows"] or one["bytes"]:
            each = "–" if one["row_bytes"] is None else f"{one['row_bytes']:.1f}"
            yield Text(
                f"{clean(one['table']):<{_NAME}}{one['rows']:>14,}{amount(one['bytes'], 'By'):>11}{each:>11}"
                f"  {_second(one['oldest']) if one['oldest'] else ''}".rstrip()
            )


def _sealed(sealed: list[Json]) -> Iterator[Text]:
    """The rest of the store is hot: in the tables."""
    for one in sealed:
        yield Text()
        span = f"from {_second(one['oldest'])} to {_second(one['newest'])}"
        takes = f"{amount(one['bytes'], 'By')}, {one['row_bytes']:.1f} bytes a row"
        yield Text(f"sealed: {one['rows']:,} rows of {clean(one['kind'])} in {one['files']} files, {span}, {takes}")


def _figure(each: float | None) -> str:
    return "not known yet (too little is stored)" if each is None else amount(each, "By")


def _second(moment: str) -> str:
    """A moment of the API without its fraction of a second."""
    return clean(moment)[:19] + "Z"
