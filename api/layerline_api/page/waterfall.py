"""A request as a waterfall: a row for each span, on one axis; its own time in the colours of what it was lost to.

Drawn as SVG that the browser stretches: across, a row has 1,000 units for the time that is shown; down it has 20. A
thin bar is the span with all that it waited for; what is solid is its own time on the critical path. Within a span's
own stretches it is not known what came first: each is divided as the whole of them is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

from layerline_api.page.picture import UNEXPLAINED, layer_of
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean
from layerline_api.words.entities import whole
from layerline_api.words.samples import samples
from layerline_api.words.times import ns_of
from layerline_api.words.traces import Fact, Log, Span, tell_log, tell_span
from layerline_correlator.verdict.statement import masked

Json = Mapping[str, Any]

ACROSS, DOWN = 1_000, 20
#: Characters of a name in a row, and of an attribute's value; of a statement.
NAME, VALUE, STATEMENT = 80, 2_000, 2_000
#: Marks in a row where the path goes from one to another, and log records with the span that wrote them, at most.
_OFTEN, _LOGS = 60, 20
#: How deep rows are set in.
_DEEPEST = 16
_STATEMENTS = ("db.query.text", "db.statement")


@dataclass(frozen=True, slots=True)
class Own:
    """What one cause took of a row's own time."""

    layer: str
    shade: int
    title: str
    who: str
    took: str
    inferred: bool


@dataclass(frozen=True, slots=True)
class Area:
    """All stretches of a row that one cause is charged with, as one path."""

    layer: str
    shade: int
    title: str
    path: str


@dataclass(frozen=True, slots=True)
class Flame:
    """A frame of a flame graph, in percent of its width; ``level`` 0 is below."""

    level: int
    x: str
    width: str
    text: str
    looks: int


@dataclass(frozen=True, slots=True)
class Row:
    """A span, or several alike."""

    indent: int
    service: str
    name: str
    alike: int
    is_failed: bool
    is_on_path: bool
    x: float
    width: float
    areas: list[Area]
    handovers: str
    told: str
    took: str
    own: list[Own]
    own_took: str
    span: Span
    statement: str
    flames: list[Flame]
    looks: int
    logs: list[Log]
    more: str
    """What is folded into it, and below; "" for nothing."""
    unfold: str
    """Where that is unfolded."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What ``_waterfall.html`` draws."""

    axis: list[str]
    rows: list[Row]
    legend: list[tuple[str, int, str, str]]
    """Layer, shade, title and how much, most first."""
    spans: str
    under: str
    whole: str
    """The address of the whole request, where only a part is shown."""
    notes: list[str] = field(default_factory=list)


def drawn(fall: Json, titles: Mapping[str, str]) -> Drawn:
    """The waterfall's JSON as rows."""
    from_ns, to_ns = int(fall["from_ns"]), max(int(fall["to_ns"]), int(fall["from_ns"]) + 1)
    scale = _Scale(from_ns, to_ns)
    shades, legend = _legend(fall["rows"], titles)
    handovers = _handovers(fall["rows"], scale)
    begin_ns = ns_of(fall["start"])
    by_span: dict[str, list[Json]] = {}
    for log in fall["logs"]:
        by_span.setdefault(str(log["span_id"]), []).append(log)
    address = f"/requests/{clean(fall['trace_id'])}"
    rows = []
    for number, one in enumerate(fall["rows"]):
        span = one["span"]
        own_ns = int(one["own_ns"])
        found = samples(span)
        story = tell_span(span, 0, begin_ns)
        rows.append(
            Row(
                indent=min(int(one["depth"]), _DEEPEST),
                service=_cut(story.service, NAME // 2),
                name=_cut(story.name, NAME),
                alike=int(one["alike"]),
                is_failed=story.failed,
                is_on_path=own_ns > 0,
                x=scale.x(int(one["offset_ns"])),
                width=max(1.5, scale.width(int(one["offset_ns"]), int(one["duration_ns"]))),
                areas=list(_areas(one, titles, shades, scale)),
                handovers=handovers.get(number, ""),
                told=_told(story, one, titles),
                took=human(one["duration_ns"] if one["alike"] == 1 else one["total_ns"]),
                own=list(_own(one, titles, shades)),
                own_took=human(own_ns),
                span=_shortened(story),
                statement=_statement(span),
                flames=list(_flames(found)),
                looks=sum(each.looks for each in found),
                logs=[tell_log(log) for log in by_span.get(str(span["span_id"]), ())[:_LOGS]],
                more=_more(one),
                unfold=_unfold(one, fall, address),
            )
        )
    return Drawn(
        axis=[human(from_ns + (to_ns - from_ns) * quarter // 4) for quarter in range(4)],
        rows=rows,
        legend=legend,
        spans=f"{fall['spans']:,} span{'' if fall['spans'] == 1 else 's'}",
        under="" if fall["under"] is None else f"{rows[0].service} {rows[0].name}",
        whole="" if fall["under"] is None else f"{address}?{urlencode({'span_id': fall['span_id']})}",
        notes=list(_notes(fall, len(rows))),
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    from_ns: int
    to_ns: int

    def x(self, offset_ns: float) -> float:
        """Across, within what is shown."""
        at = (offset_ns - self.from_ns) / (self.to_ns - self.from_ns) * ACROSS
        return round(min(float(ACROSS), max(0.0, at)), 2)

    def width(self, offset_ns: float, length_ns: float) -> float:
        """How wide, as far as it is shown."""
        return round(self.x(offset_ns + length_ns) - self.x(offset_ns), 2)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _shortened(span: Span) -> Span:
    """The span with values that a page can hold, its statement and samples left out: they are shown by themselves."""
    left_out = (*_STATEMENTS, "layerline.samples", "layerline.slices")
    facts = tuple(
        Fact(_cut(fact.name, NAME), _cut(fact.value, VALUE), fact.lines[:60])
        for fact in span.facts
        if fact.name not in left_out
    )
    return Span(
        depth=0, service=_cut(span.service, VALUE), name=_cut(span.name, VALUE), kind=span.kind, took=span.took,
        after=span.after, failed=span.failed, error=_cut(span.error, VALUE), facts=facts, events=span.events[:20],
        links=span.links[:20], left_out=span.left_out,
    )  # fmt: skip


def _statement(span: Json) -> str:
    """The database statement, its values as ``?``."""
    attributes = span.get("attributes") or {}
    text = next((attributes[name] for name in _STATEMENTS if attributes.get(name)), "")
    system = attributes.get("db.system.name") or attributes.get("db.system") or ""
    return clean(masked(str(text)[: 4 * STATEMENT], str(system), STATEMENT)) if text else ""


def _title(cause: str, titles: Mapping[str, str]) -> str:
    return titles[cause] if cause in titles else clean(cause)


def _legend(rows: Sequence[Json], titles: Mapping[str, str]) -> tuple[dict[str, int], list[tuple[str, int, str, str]]]:
    """The shade of each cause in its layer's colour, and the causes with what they took in all, most first."""
    lost: dict[str, int] = {}
    for row in rows:
        for share in row["shares"]:
            lost[share["cause"]] = lost.get(share["cause"], 0) + share["lost_ns"]
    shades: dict[str, int] = {}
    of_layer: dict[str, int] = {}
    legend = []
    for cause in sorted(lost, key=lambda one: (-lost[one], one)):
        layer = layer_of(cause)
        shades[cause] = of_layer.get(layer, 0) % 4
        of_layer[layer] = shades[cause] + 1
        legend.append((layer, shades[cause], _title(cause, titles), human(lost[cause])))
    if open_ns := sum(row["unexplained_ns"] for row in rows):
        legend.append((UNEXPLAINED, 0, "unexplained", human(open_ns)))
    return shades, legend


def _by_cause(row: Json) -> list[tuple[str, int]]:
    """Causes and what they took, in the order of layers; what is unexplained last."""
    lost: dict[str, int] = {}
    for share in row["shares"]:
        lost[share["cause"]] = lost.get(share["cause"], 0) + share["lost_ns"]
    return [*lost.items(), *([(UNEXPLAINED, row["unexplained_ns"])] if row["unexplained_ns"] > 0 else [])]


def _areas(row: Json, titles: Mapping[str, str], shades: Mapping[str, int], scale: _Scale) -> Iterator[Area]:
    """Each stretch of the row's own time, divided as all of them together are."""
    own_ns = row["own_ns"]
    before = 0.0
    for cause, lost_ns in _by_cause(row) if own_ns else ():
        share = lost_ns / own_ns
        path = []
        for stretch in row["path"]:
            at_ns, length_ns = stretch["offset_ns"] + before * stretch["length_ns"], share * stretch["length_ns"]
            width = scale.width(at_ns, length_ns)
            if width > 0:
                path.append(f"M{scale.x(at_ns):g} 3h{width:g}v14h-{width:g}z")
        before += share
        if path:
            yield Area(
                layer=layer_of(cause),
                shade=shades.get(cause, 0),
                title=f"{_title(cause, titles)}: {human(lost_ns)}",
                path="".join(path),
            )


def _handovers(rows: Sequence[Json], scale: _Scale) -> dict[int, str]:
    """Where the critical path goes from one row to another: for each row the upright lines in it, as one path.

    Not to or from rows that stand for several spans: between those it goes to and fro more often than can be seen.
    """
    stretches = sorted(
        (stretch["offset_ns"], stretch["offset_ns"] + stretch["length_ns"], number)
        for number, row in enumerate(rows)
        for stretch in row["path"]
    )
    found: dict[int, set[tuple[float, int, int]]] = {}
    for (_, end_ns, above), (_, _, below) in pairwise(stretches):
        if above == below or any(rows[one]["alike"] > 1 or len(rows[one]["path"]) > _OFTEN for one in (above, below)):
            continue
        first, last = min(above, below), max(above, below)
        x = scale.x(end_ns)
        for number in range(first, last + 1):
            top = DOWN // 2 if number == first else 0
            bottom = DOWN // 2 if number == last else DOWN
            found.setdefault(number, set()).add((x, top, bottom))
    return {
        number: "".join(f"M{x:g} {top}V{bottom}" for x, top, bottom in sorted(lines))
        for number, lines in found.items()
        if len(lines) <= _OFTEN
    }


def _own(row: Json, titles: Mapping[str, str], shades: Mapping[str, int]) -> Iterator[Own]:
    for share in row["shares"]:
        cause = share["cause"]
        yield Own(
            layer_of(cause), shades.get(cause, 0), _title(cause, titles), whole(share["entity"]),
            human(share["lost_ns"]), share["inferred"],
        )  # fmt: skip
    if row["unexplained_ns"] > 0:
        yield Own(UNEXPLAINED, 0, "unexplained", "", human(row["unexplained_ns"]), False)


def _told(story: Span, row: Json, titles: Mapping[str, str]) -> str:
    """The row for those who do not see it."""
    said = f"{_cut(story.service, NAME)} {_cut(story.name, NAME)}, {human(row['duration_ns'])} from {story.after} on"
    own = ", ".join(f"{_title(cause, titles)} {human(lost_ns)}" for cause, lost_ns in _by_cause(row))
    return f"{said}; own time {human(row['own_ns'])}" + (f": {own}" if own else "")


def _more(row: Json) -> str:
    """``×479 alike, with 958 below``."""
    below = f"{row['below']:,} span{'' if row['below'] == 1 else 's'} below"
    if row["alike"] > 1:
        return f"{row['alike']:,} alike" + (f", with {below}" if row["below"] else "") + ", folded"
    return f"{below}, folded" if row["below"] else ""


def _unfold(row: Json, fall: Json, address: str) -> str:
    """The address that shows what is folded: below the row's span, or for several alike below their caller."""
    if row["alike"] == 1 and not row["below"]:
        return ""
    under = row["span"]["parent_span_id"] if row["alike"] > 1 else row["span"]["span_id"]
    if not under or (under == fall["under"] and row["alike"] == 1):
        return ""
    return f"{address}?{urlencode({'span_id': fall['span_id'], 'under': under})}#spans"


def _flames(found: Sequence[Any]) -> Iterator[Flame]:
    looks = sum(one.looks for one in found)
    if not looks:
        return
    at = 0
    kinds: dict[str, tuple[int, int]] = {}
    for one in found:
        start, width = kinds.get(one.did, (at, 0))
        kinds[one.did] = (start, width + one.looks)
        yield Flame(1, f"{at / looks:.3%}", f"{one.looks / looks:.3%}", _cut(one.place, VALUE), one.looks)
        at += one.looks
    for did, (start, width) in kinds.items():
        yield Flame(0, f"{start / looks:.3%}", f"{width / looks:.3%}", did, width)


def _notes(fall: Json, rows: int) -> Iterator[str]:
    if folded := fall["spans"] - rows:
        yield f"{folded:,} of {fall['spans']:,} spans are folded: their time is in the rows that count them."
    if fall["elsewhere"] > 0:
        yield f"{fall['elsewhere']:,} more of the trace are not below what is shown."
