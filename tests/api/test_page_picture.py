"""A timeline as SVG: what was not measured is a gap, and everything stands on the same steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from layerline_api.page.picture import Strip, excess_of, pictured

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parent / "golden/incident.json").read_text(encoding="utf-8"))
STOCK = {"type": "container", "id": "4f2a" + "0" * 60, "name": "stock-1"}


def series(name: str, values: list[float | None], **more: Any) -> dict[str, Any]:
    return {
        "layer": "container", "about": "readings", "name": name, "kind": "rate", "unit": "s/s", "entity": STOCK,
        "attributes": {}, "values": values,
    } | more  # fmt: skip


def body(*found: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "from": "2026-11-23T10:00:00.000000000Z", "to": "2026-11-23T10:00:04.000000000Z", "step_ns": 10**9,
        "points": 4, "series": list(found), "events": [], "incidents": [], "left_out": {"entities": 0},
    } | more  # fmt: skip


def only(*found: dict[str, Any]) -> Strip:
    (group,) = pictured(body(*found), {}).groups
    (strip,) = group.strips
    return strip


def test_a_gap_is_no_zero() -> None:
    """A line stops where nobody looked and runs along the bottom where zero was measured."""
    strip = only(series("container.cpu.throttled", [0.0, None, 0.5, 1.0]))
    (shape,) = strip.shapes
    assert strip.gaps == [(1, 1)]
    assert shape.path == "M0 98V98H1M2 50V50H3V2H4"
    assert "not measured in 1 of 4 steps" in strip.told


def test_one_step_alone_is_seen() -> None:
    """A value that stands alone between gaps is a stroke as long as its step, not a point without length."""
    (shape,) = only(series("container.cpu.throttled", [None, 1.0, None, None])).shapes
    assert shape.path == "M1 2V2H2"


def test_causes_stand_on_each_other() -> None:
    """The highest of the stack is the scale; each cause begins where the one below it ends; a gap is none of both."""
    causes: dict[str, Any] = {"about": "causes", "entity": None}
    strip = only(
        series("container.cpu_throttled", [0.5, None, 0.0, 0.25], **causes),
        series("app.cpu_busy", [0.5, None, 0.25, 0.25], layer="app", **causes),
    )
    throttled, busy = strip.shapes
    assert strip.most == "1,000 ms/s"
    assert strip.gaps == [(1, 1)]
    assert throttled.style == "container"
    assert throttled.area.startswith("M0 98V50H1V98H0Z")
    assert busy.area.startswith("M0 50V2H1V50H0Z")


def test_what_never_took_much_is_told_together() -> None:
    """Causes below a hundredth of the highest are one line of the legend; a single one keeps its name."""
    causes: dict[str, Any] = {"about": "causes", "entity": None}
    large = series("container.cpu_throttled", [1.0] * 4, **causes)
    small = [series(name, [0.001] * 4, **causes) for name in ("app.cpu_busy", "app.blocked")]
    assert [shape.name for shape in only(large, *small).shapes] == ["container.cpu_throttled", "2 smaller"]
    assert [shape.name for shape in only(large, small[0]).shapes] == ["container.cpu_throttled", "app.cpu_busy"]


def test_what_is_unexplained_is_always_told() -> None:
    """However little no cause accounts for, the legend says so, even that it is nothing."""
    causes: dict[str, Any] = {"about": "causes", "entity": None}
    small = [series(name, [0.001] * 4, **causes) for name in ("app.cpu_busy", "app.blocked")]
    strip = only(series("app.lock_waited", [1.0] * 4, **causes), *small, series("unexplained", [0.0] * 4, **causes))
    assert [(shape.name, shape.most) for shape in strip.shapes][1:] == [
        ("unexplained", "0 ms/s"),
        ("2 smaller", "2.0 ms/s"),
    ]


def test_what_stayed_at_zero_is_counted_not_drawn() -> None:
    """A reading that never moved takes no room, and the notes say that it was measured; a gap alone is not counted."""
    picture = pictured(body(series("a.b", [0, 0, 0, 0]), series("a.c", [None] * 4), series("a.d", [1, 1, 1, 1])), {})
    assert [strip.name for group in picture.groups for strip in group.strips] == ["d"]
    assert picture.notes == ["1 more were measured and stayed at 0."]


def test_marks_stand_where_they_happened() -> None:
    """An event stands at its moment, an incident covers its time, and one that goes on reaches the end."""
    incident = {"id": "0" * 12, "end": None, "services": ["web"], "cause": None, "summary": "slow"}
    event = {"time": "2026-11-23T10:00:01.500000000Z", "name": "deploy", "body": "", "entity": None, "attributes": {}}
    picture = pictured(
        body(
            series("a.d", [1, 1, 1, 1]),
            events=[event],
            incidents=[incident | {"start": "2026-11-23T10:00:03.000000000Z"}],
        ),
        {},
    )
    assert picture.events == [1.5]
    assert [(mark.x, mark.width) for mark in picture.incidents] == [(3.0, 1.0)]


def test_an_incident_is_drawn_on_its_own_steps() -> None:
    """The excess of each cause covers each step in which there were requests, and only that; it needs no store."""
    group = excess_of(DOCUMENT, {})
    assert group is not None
    (strip,) = group.strips
    steps = len(DOCUMENT["excess"]["requests"])
    places = [int(place) for shape in strip.shapes for place in re.findall(r"H(\d+)", shape.area)]
    assert (min(places), max(places)) == (0, steps)
    assert strip.shapes[0].style == "container"
