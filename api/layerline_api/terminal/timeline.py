"""A timeline for people at a terminal: one line for each series, all on the same columns of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from rich.cells import set_cell_size
from rich.text import Text

from layerline_api.terminal.text import LAYER_STYLE, WIDTH, cut, fitted, wrapped
from layerline_api.words.clean import clean
from layerline_api.words.entities import whole
from layerline_api.words.timeline import amount_of, heading, label_of
from layerline_api.words.times import length, ns_of, when

Json = Mapping[str, Any]

_LABEL, _PICTURE = 26, WIDTH - 40  # the rest is for the highest value
_AXIS = 8  # of a time on the axis
_BLOCKS = "▂▃▄▅▆▇█"
_GAP, _ZERO = "·", "▁"
_EVENTS = 20


def picture(body: Json) -> list[Text]:
    """Head, axis, a line for each series that was ever more than 0, events and incidents."""
    columns = _columns(int(body["points"]))
    from_ns, step_ns, points = ns_of(body["from"]), int(body["step_ns"]), int(body["points"])
    out = [*_head(body, step_ns), Text(), _axis(from_ns, step_ns * points, columns)]
    still = 0
    for title, group in groupby(body["series"], key=heading):
        lines = []
        for series in group:
            values = _drawn(series["values"], columns)
            if series["about"] != "requests" and not any(values):
                still += any(value is not None for value in values)
            elif series["attributes"].get("cpu.mode") != "idle":
                lines.append(_line(series, values))
        if lines:
            out += [fitted(title, WIDTH), *lines]
    out += _marks(body, from_ns, step_ns * points, columns)
    out += [
        Text(),
        *wrapped(f"{_GAP} not measured   {_ZERO} zero   the tallest block is the highest value, at the right"),
    ]
    if still:
        out += wrapped(f"{still} more were measured and stayed at 0.")
    for what, count in body["left_out"].items():
        if count:
            out += wrapped(f"{count} more {clean(what)} are left out; narrow what is asked for.")
    return out


def _head(body: Json, step_ns: int) -> Iterator[Text]:
    chosen = [clean(body[name]) for name in ("service", "operation") if body[name]]
    if chosen:
        yield fitted("  ".join(chosen), WIDTH)
    yield fitted(f"{when(body['from'])} to {when(body['to'])} UTC, a value for each {length(step_ns)}", WIDTH)


def _line(series: Json, values: Sequence[float | None]) -> Text:
    label = label_of(series)
    most = max((value for value in values if value is not None), default=None)
    return Text.assemble(
        "  " + set_cell_size(cut(label, _LABEL - 3), _LABEL - 2),
        ("".join(_block(value, most) for value in values), LAYER_STYLE.get(series["layer"], "")),
        ("" if most is None else " " + cut(amount_of(most, series), WIDTH - _LABEL - len(values) - 1), "dim"),
    )


def _block(value: float | None, most: float | None) -> str:
    if value is None:
        return _GAP
    if value <= 0 or not most:
        return _ZERO
    return _BLOCKS[min(len(_BLOCKS) - 1, int(value / most * len(_BLOCKS)))]


def _columns(points: int) -> int:
    """How wide the picture is: whole columns for each point where they fit."""
    return points * (_PICTURE // points) if points <= _PICTURE else _PICTURE


def _drawn(values: Sequence[float | None], columns: int) -> list[float | None]:
    """One value for each column: the highest of its points, null where all of them are."""
    points = len(values)
    drawn = []
    for column in range(columns):
        begin = column * points // columns
        end = max(begin + 1, (column + 1) * points // columns)
        known = [value for value in values[begin:end] if value is not None]
        drawn.append(max(known) if known else None)
    return drawn


def _axis(from_ns: int, length_ns: int, columns: int) -> Text:
    """Times above the columns in which they are."""
    form = "%H:%M:%S" if length_ns < 24 * 3600 * 10**9 else "%d %H:%M"
    line = " " * _LABEL
    for quarter in range(4):
        place = _LABEL + columns * quarter // 4
        if quarter == 0 or place > len(line):
            moment = datetime.fromtimestamp((from_ns + length_ns * quarter // 4) // 10**9, UTC)
            line = line.ljust(place) + moment.strftime(form)
    return Text(line, style="dim")


def _marks(body: Json, from_ns: int, length_ns: int, columns: int) -> Iterator[Text]:
    """The columns in which something happened, and what."""

    def column(time_ns: int) -> int:
        return min(columns - 1, max(0, (time_ns - from_ns) * columns // length_ns))

    incidents, events = body["incidents"], body["events"]
    if incidents:
        yield Text("incidents")
        for one in incidents:
            begin = column(ns_of(one["start"]))
            end = columns - 1 if one["end"] is None else column(ns_of(one["end"]))
            label = cut(clean(one["cause"] or ", ".join(one["services"])), _LABEL - 3)
            yield Text("  " + set_cell_size(label, _LABEL - 2) + " " * begin + "━" * (end - begin + 1), style="bold")
            yield fitted(f"  {when(one['start'])[11:]}  {clean(one['summary'])}", WIDTH)
    if not events:
        return
    counts = [0] * columns
    for event in events:
        counts[column(ns_of(event["time"]))] += 1
    row = "".join(" " if not count else (str(count) if count < 10 else "+") for count in counts)
    yield Text(f"{'events':<{_LABEL}}{row}".rstrip(), style="bold")
    for event in events[:_EVENTS]:
        who = "" if event["entity"] is None else whole(event["entity"])
        yield fitted(
            f"  {when(event['time'])[11:]}  {clean(event['name'])}  {who}  {clean(event['body'])}".rstrip(), WIDTH
        )
    if len(events) > _EVENTS:
        yield Text(f"  and {len(events) - _EVENTS} more (--json shows them)")
