"""A timeline as SVG: one strip for each series or stack of causes, all on the same steps of time.

Drawn here and not by a chart library: those that draw on a server write their colours into ``style``, which the page's
policy forbids, and draw a line through what was not measured. Coordinates are steps across and hundredths of the
strip's scale down, so a path is little more than its values; the browser stretches them (``preserveAspectRatio``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Any
from urllib.parse import quote, urlencode

from layerline_api.words.amounts import human
from layerline_api.words.clean import clean
from layerline_api.words.entities import whole
from layerline_api.words.timeline import amount_of, heading, label_of
from layerline_api.words.times import length, ns_of, when

Json = Mapping[str, Any]
Values = Sequence[float | None]

#: Events listed below the picture.
EVENTS = 100
_TOP, _BASE = 2.0, 98.0
_LAYERS = ("app", "dependency", "network", "container", "host")
#: What no cause accounts for: its name, and the style of whatever has no layer.
UNEXPLAINED = "unexplained"
#: Of the highest: causes that never took so much are told together.
_SMALL = 0.01
#: Signs that are nearer than so many percent stand beside each other.
_NEAR = 3.0
_QUANTILES = ("requests.p50", "requests.p95", "requests.p99")
#: What causes and excess are: seconds per second.
_PER_SECOND = {"name": "", "unit": "s/s", "kind": "rate"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A line or an area of a strip. ``style`` is its class: a layer, a quantile."""

    style: str
    path: str
    name: str
    most: str = ""
    area: str = ""
    shade: int = 0
    """Tells shapes of one style apart: 0 to 3."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One row of the picture."""

    name: str
    most: str
    """The scale's top, with its unit."""
    told: str
    """The same for those who do not see it."""
    shapes: list[Shape]
    gaps: list[tuple[int, int]]
    """Where nobody looked, or no request was: first step and number of steps."""
    is_tall: bool = False
    top: float = 0.0
    """The scale's top, and its unit, for the cursor (``lanes.js``)."""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Strips about the same, and where to see more of it."""

    title: str
    strips: list[Strip]
    link: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of time, in steps."""

    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Sign:
    """A layer's first sign: its number, where it is (percent across, how many stand there already), and its words."""

    number: int
    at: float
    place: int
    layer: str
    words: str


@dataclass(frozen=True, slots=True)
class Band:
    """Another incident beside the one that is shown, in percent across."""

    x: float
    width: float
    words: str
    link: str


@dataclass(frozen=True, slots=True)
class Beside:
    """What an incident's picture shows besides its series."""

    incident: str
    """Its id: of the others only a thin band is shown."""
    signs: Sequence[tuple[int, str, str]] = ()
    """When, in ns since 1970; layer; words. In order of time."""
    without: tuple[int, int, int, str] | None = None
    """Begin and end, the 95th percentile in ns that would have been then without what is blamed, and its words."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An event or incident as a line of text."""

    when: str
    what: str
    who: str
    more: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """What ``_picture.html`` draws."""

    points: int
    stretch: str
    axis: list[str]
    groups: list[Group] = field(default_factory=list)
    incidents: list[Mark] = field(default_factory=list)
    events: list[float] = field(default_factory=list)
    listed_incidents: list[Listed] = field(default_factory=list)
    listed_events: list[Listed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    begin: float = 0.0
    """Where what is shown begins, in steps; all of them are shown unless said otherwise."""
    width: float = 0.0
    from_ms: float = 0.0
    step_ms: float = 0.0
    signs: list[Sign] = field(default_factory=list)
    sign_marks: list[float] = field(default_factory=list)
    """Where the signs are, in steps."""
    others: list[Band] = field(default_factory=list)

    @property
    def view(self) -> str:
        """What each strip shows: steps across, hundredths of its scale down."""
        return f"{self.begin:g} 0 {self.width or self.points:g} 100"


def pictured(
    body: Json,
    titles: Mapping[str, str],
    excess: Group | None = None,
    only: frozenset[str] | None = None,
    moments_ns: Sequence[int] = (),
    shown_ns: tuple[int, int] | None = None,
    beside: Beside | None = None,
) -> Picture:
    """The picture of a timeline's JSON.

    ``excess`` stands in the place of the causes, ``only`` are the ids of the entities whose readings are shown,
    ``moments_ns`` are marked besides the events, ``shown_ns`` is the part of the time that is shown, ``beside`` is what
    an incident's picture shows besides.
    """
    points, step_ns = int(body["points"]), int(body["step_ns"])
    from_ns = ns_of(body["from"])
    times = _Times(from_ns, step_ns, points)
    window = {"from": str(body["from"]), "to": str(body["to"])}
    groups: list[Group] = []
    still = 0
    for title, found in groupby(body["series"], key=heading):
        group = list(found)
        about, entity = group[0]["about"], group[0]["entity"]
        if about == "requests":
            groups.append(Group(title, list(_requests(group, times, beside.without if beside else None))))
        elif about == "causes":
            if excess is None and (causes := _named(group, titles)):
                groups.append(Group(title, [stack(causes, times)]))
        elif only is None or (entity is not None and entity["id"] in only):
            strips = [_single(one, times) for one in group if _moves(one)]
            still += sum(not _moves(one) and any(value is not None for value in one["values"]) for one in group)
            if strips:
                groups.append(Group(title, strips, link_of(entity, window)))
    if excess is not None:
        groups.insert(1 if groups and groups[0].title == "requests" else 0, excess)
    begin, end = shown_ns or (from_ns, from_ns + points * step_ns)
    return Picture(
        begin=round((begin - from_ns) / step_ns, 6),
        width=max(1e-6, round((end - begin) / step_ns, 6)),
        from_ms=from_ns / 1e6,
        step_ms=step_ns / 1e6,
        points=points,
        stretch=f"{when(body['from'])} to {when(body['to'])} UTC, a value for each {length(step_ns)}",
        axis=times.axis(),
        groups=groups,
        incidents=[
            _incident_mark(one, times) for one in body["incidents"] if not beside or one["id"] == beside.incident
        ],
        others=[] if beside is None else list(_bands(body["incidents"], beside.incident, times)),
        signs=[] if beside is None else list(_signs(beside.signs, times)),
        sign_marks=[] if beside is None else sorted({times.place(at_ns) for at_ns, *_ in beside.signs}),
        events=sorted({times.place(at_ns) for at_ns in (*moments_ns, *(ns_of(one["time"]) for one in body["events"]))}),
        listed_incidents=[
            Listed(when(one["start"]), clean(one["summary"]), "", "", f"/incidents/{quote(one['id'])}")
            for one in body["incidents"]
        ],
        listed_events=[
            Listed(
                when(one["time"])[11:],
                clean(one["name"]),
                "" if one["entity"] is None else whole(one["entity"]),
                clean(one["body"]),
            )
            for one in islice(body["events"], EVENTS)
        ],
        notes=list(_notes(body, still)),
    )


@dataclass(frozen=True, slots=True)
class _Times:
    """The steps of a picture."""

    from_ns: int
    step_ns: int
    points: int

    def place(self, time_ns: int) -> float:
        """Where a moment is, in steps, within the picture."""
        return round(min(float(self.points), max(0.0, (time_ns - self.from_ns) / self.step_ns)), 2)

    def clock(self, step: int) -> str:
        """When a step begins."""
        moment = datetime.fromtimestamp((self.from_ns + step * self.step_ns) // 10**9, UTC)
        day = self.points * self.step_ns >= 24 * 3600 * 10**9
        return moment.strftime("%d %b %H:%M" if day else "%H:%M:%S")

    def axis(self) -> list[str]:
        """The times at which the picture's quarters begin."""
        return [self.clock(self.points * quarter // 4) for quarter in range(4)]


def _named(group: Sequence[Json], titles: Mapping[str, str]) -> list[tuple[str, str, Values]]:
    """Name, layer and values of causes; those that took nothing are left out, what is unexplained is always there."""
    return [
        (titles.get(one["name"], clean(one["name"])), layer_of(one["name"]), one["values"])
        for one in group
        if _moves(one) or one["name"] == UNEXPLAINED
    ]


def layer_of(cause: str) -> str:
    layer = cause.partition(".")[0]
    return layer if layer in _LAYERS else UNEXPLAINED


def _moves(series: Json) -> bool:
    """Whether there is something to see: it was ever other than 0, and not for being idle."""
    return any(series["values"]) and series["attributes"].get("cpu.mode") != "idle"


def _bands(incidents: Sequence[Json], own: str, times: _Times) -> Iterator[Band]:
    """The other incidents of the time."""
    for one in incidents:
        if one["id"] != own:
            mark = _incident_mark(one, times)
            x, width = (round(100 * value / times.points, 3) for value in (mark.x, mark.width))
            yield Band(x, max(0.3, width), clean(one["summary"]), f"/incidents/{quote(one['id'])}")


def _signs(signs: Sequence[tuple[int, str, str]], times: _Times) -> Iterator[Sign]:
    """The numbered signs; those that are too near to the one before stand beside it."""
    before, place = -100.0, 0
    for number, (at_ns, layer, words) in enumerate(signs, 1):
        at = round(100 * times.place(at_ns) / times.points, 3)
        place = place + 1 if at - before < _NEAR else 0
        before = at if place == 0 else before
        yield Sign(number, at, place, layer, words)


def _requests(
    group: Sequence[Json], times: _Times, without: tuple[int, int, int, str] | None = None
) -> Iterator[Strip]:
    """Latency in one strip, the counts in one each."""
    by_name = {one["name"]: one for one in group}
    quantiles = [by_name[name] for name in _QUANTILES if name in by_name]
    if quantiles:
        top = max(_top(one["values"]) for one in quantiles)
        shapes = [
            Shape(one["name"].partition(".")[2], line_of(one["values"], top), label_of(one), _most(one))
            for one in quantiles
        ]
        if without is not None:
            begin_ns, end_ns, p95_ns, words = without
            path = f"M{times.place(begin_ns):g} {_y(p95_ns, top):g}H{times.place(end_ns):g}"
            shapes.append(Shape("without", path, words, human(p95_ns)))
        shown = quantiles[-1]
        yield Strip(
            name="how long they took",
            most=amount_of(top, shown),
            told=_told("how long requests took", shown, times, top),
            shapes=shapes,
            gaps=_gaps(shown["values"]),
            is_tall=True,
            top=top,
            unit=_unit(shown),
        )
    for one in group:
        if one["name"] not in _QUANTILES:
            yield _single(one, times, style={"requests.slow": "slow", "requests.errors": "errors"}.get(one["name"]))


def _single(series: Json, times: _Times, style: str | None = None) -> Strip:
    values: Values = series["values"]
    top = _top(values)
    layer = style or (series["layer"] if series["layer"] in _LAYERS else UNEXPLAINED)
    if series["about"] == "requests" and style is None:
        layer = UNEXPLAINED
    return Strip(
        name=label_of(series),
        most=_most(series),
        told=_told(label_of(series), series, times, top),
        shapes=[Shape(layer, line_of(values, top), label_of(series), area=_area([0.0] * len(values), values, top))],
        gaps=_gaps(values),
        top=top,
        unit=_unit(series),
    )


def _unit(series: Json) -> str:
    """The unit in which the script says a value: as ``amount_of`` does."""
    if series["name"].endswith(".cpu.time"):
        return "CPUs"
    return "" if series["kind"] == "count" else clean(series["unit"])


def stack(series: Sequence[tuple[str, str, Values]], times: _Times, told: str = "where the time went") -> Strip:
    """Name, layer and values in seconds per second, one upon the other; what is below 0 is not drawn."""
    shapes: list[Shape] = []
    bottom = [0.0] * times.points
    series = _without_small(series)
    most = max(sum(max(values[step] or 0.0, 0.0) for *_, values in series) for step in range(times.points))
    for name, layer, values in series:
        top = [low + max(value or 0.0, 0.0) for low, value in zip(bottom, values, strict=True)]
        shapes.append(
            Shape(
                style=layer,
                path="",
                name=name,
                most=amount_of(_top(values), _PER_SECOND),
                area=_area(
                    bottom, [None if value is None else up for value, up in zip(values, top, strict=True)], most
                ),
                shade=sum(shape.style == layer for shape in shapes) % 4,
            )
        )
        bottom = top
    known = [
        None if all(values[step] is None for *_, values in series) else bottom[step] for step in range(times.points)
    ]
    return Strip(
        name=told,
        most=amount_of(most, _PER_SECOND),
        told=_told(told, {**_PER_SECOND, "values": known}, times, most),
        shapes=shapes,
        gaps=_gaps(known),
        is_tall=True,
        top=most,
        unit="s/s",
    )


def _without_small(series: Sequence[tuple[str, str, Values]]) -> list[tuple[str, str, Values]]:
    """Causes that never took a hundredth of the highest are told together. What is unexplained is told by itself."""
    bound = _SMALL * max(_top(values) for *_, values in series)
    small = [one for one in series if _top(one[2]) < bound and one[1] != UNEXPLAINED]
    if len(small) < 2:
        return list(series)
    together = [
        None if all(value is None for value in at) else sum(value or 0.0 for value in at)
        for at in zip(*(values for *_, values in small), strict=True)
    ]
    return [*(one for one in series if one not in small), (f"{len(small)} smaller", UNEXPLAINED, together)]


def excess_of(incident: Json, titles: Mapping[str, str]) -> Group | None:
    """An incident's own series, on its own steps: what each cause cost beyond its usual."""
    excess = incident["excess"]
    if excess is None:
        return None
    times = _Times(ns_of(excess["start"]), int(excess["step_ns"]), len(excess["requests"]))
    series = []
    for one in excess["series"]:
        who = "" if one["entity"] is None else f", {whole(one['entity'])}"
        values = [None if value is None else value / times.step_ns for value in one["excess_ns"]]
        if any(value is not None and value > 0 for value in values):
            series.append((titles.get(one["cause"], clean(one["cause"])) + who, layer_of(one["cause"]), values))
    if not series:
        return None
    return Group("beyond the usual, per second", [stack(series, times, "excess by cause and entity")])


def _top(values: Values) -> float:
    """The highest of what was measured, 0 where nothing was."""
    return max((value for value in values if value is not None), default=0.0)


def _most(series: Json) -> str:
    most = max((value for value in series["values"] if value is not None), default=None)
    return "" if most is None else amount_of(most, series)


def _told(name: str, series: Json, times: _Times, top: float) -> str:
    values: Values = series["values"]
    unseen = sum(value is None for value in values)
    gap = "not measured" if series.get("about") == "readings" else "no request"
    if unseen == len(values):
        return f"{name}: {gap}"
    at = times.clock(list(values).index(top)) if top in values else ""
    said = f"{name}: at most {amount_of(top, series)}" + (f", at {at}" if at else "")
    return said + (f"; {gap} in {unseen} of {len(values)} steps" if unseen else "")


def _y(value: float, top: float) -> float:
    return round(_BASE - (_BASE - _TOP) * max(value, 0.0) / top, 1) if top > 0 else _BASE


def _runs(values: Values) -> Iterator[tuple[int, int]]:
    """First step and end of each stretch that was measured."""
    for is_known, steps in groupby(range(len(values)), key=lambda step: values[step] is not None):
        if is_known:
            known = list(steps)
            yield known[0], known[-1] + 1


def _gaps(values: Values) -> list[tuple[int, int]]:
    ends = [0, *(edge for run in _runs(values) for edge in run), len(values)]
    return [(begin, end - begin) for begin, end in zip(ends[::2], ends[1::2], strict=True) if end > begin]


def _along(values: Values, steps: range, top: float) -> str:
    """The upper (or, backwards, the lower) edge: a value holds for the whole of its step."""
    out = []
    for step in steps:
        value = values[step]
        assert value is not None
        out.append(f"V{_y(value, top):g}H{step + (steps.step > 0)}")
    return "".join(out)


def line_of(values: Values, top: float) -> str:
    """A line on hundredths of a scale from 0 to ``top``: one stroke for each stretch that was measured."""
    return "".join(
        f"M{begin} {_y(values[begin] or 0.0, top):g}{_along(values, range(begin, end), top)}"
        for begin, end in _runs(values)
    )


def _area(low: Values, high: Values, top: float) -> str:
    """What lies between two edges, where it was measured."""
    return "".join(
        f"M{begin} {_y(low[begin] or 0.0, top):g}{_along(high, range(begin, end), top)}"
        f"{_along(low, range(end - 1, begin - 1, -1), top)}Z"
        for begin, end in _runs(high)
    )


def _incident_mark(one: Json, times: _Times) -> Mark:
    begin = times.place(ns_of(one["start"]))
    end = float(times.points) if one["end"] is None else times.place(ns_of(one["end"]))
    return Mark(begin, round(end - begin, 2))


def link_of(entity: Json | None, window: Mapping[str, str]) -> str:
    """The timeline of a container or host; "" of what has none."""
    if entity is None or entity["type"] not in ("container", "host"):
        return ""
    return "/timeline?" + urlencode({"entity": f"{entity['type']}:{entity['id']}", **window})


def _notes(body: Json, still: int) -> Iterator[str]:
    if still:
        yield f"{still} more were measured and stayed at 0."
    if (more := len(body["events"]) - EVENTS) > 0:
        yield f"{more} more events are in the JSON."
    for what, count in body["left_out"].items():
        if count:
            yield f"{count} more {clean(what)} are left out; narrow what is asked for."
