"""Who calls whom: services and what they depend on, with rate, p95 and errors of the calls, ongoing incidents drawn in.

Of many services those with most calls are drawn; where a service is asked for, it and its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Response

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, Form, answer
from layerline_api.page.graph import layered
from layerline_api.page.rows import rate, share
from layerline_api.parameters import Window
from layerline_api.shared import Shared
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean
from layerline_correlator.plain import plain
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.questions.questions import Questions

MENU = Entry(4, "/map", "Map")
#: Nodes and calls that are drawn, calls that are listed, and incidents that are drawn in, at most.
_NODES, _DRAWN, _LISTED, _INCIDENTS = 40, 120, 300, 5
#: The size of a node, and the room between two.
_WIDE, _HIGH, _ACROSS, _DOWN = 170, 50, 310, 84
_NAME = 22

Json = Mapping[str, Any]
#: What a node is: a service or a dependency, and its name.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Node:
    """A service or a dependency."""

    x: float
    y: float
    name: str
    cut: str
    figures: str
    link: str
    is_service: bool
    in_incident: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A line from caller to callee, and what is said at its middle."""

    path: str
    x: float
    y: float
    figures: str
    told: str
    is_failing: bool
    in_incident: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A call in the list."""

    caller: str
    callee: str
    kind: str
    rate: str
    errors: str
    p50: str
    p95: str


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/map``."""

    @blueprint.get(MENU.path)
    @declared(None, Form, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def map_page(asked: Form) -> Response:
        """The page of who calls whom."""
        return answer("map.html", asked, shared.questions, lambda: _found(asked, shared.questions))


def _found(form: Form, questions: Questions) -> dict[str, Any]:
    from_ns, to_ns = form.parameters(Window).window()
    body = plain(questions.service_map(from_ns, to_ns))
    open_ones = questions.incidents.list(IncidentQuery(from_ns, to_ns, "open", limit=_INCIDENTS)).items
    troubled = {service for one in open_ones for service in one["services"]}
    edges = body["edges"]
    if of := form.fields().get("service"):
        beside = {of} | {one["caller"] for one in edges if one["callee"] == of}
        beside |= {one["callee"] for one in edges if one["caller"] == of}
        edges = [one for one in edges if one["caller"] in beside and one["callee"] in beside]
    keys = _keys(body, edges, troubled, of)
    shown = set(keys)
    drawn = [one for one in edges if _caller(one) in shown and _callee(one) in shown][:_DRAWN]
    places, lines = layered(keys, [(_caller(one), _callee(one)) for one in drawn])
    length_ns, services = to_ns - from_ns, {one["service"]: one for one in body["items"]}
    nodes = [_node(key, places[key], services.get(key[1]), length_ns, form, troubled) for key in keys]
    known = {("service", one["service"]) for one in body["items"]} | {
        key for one in edges for key in (_caller(one), _callee(one))
    }
    return {
        "incidents": [(clean(one["summary"]), f"/incidents/{quote(one['id'])}") for one in open_ones],
        "nodes": nodes,
        "calls": [
            _call(one, lines[_caller(one), _callee(one)], places, length_ns, troubled)
            for one in drawn
            if _caller(one) != _callee(one)
        ],
        "width": max((node.x for node in nodes), default=0) + _WIDE + 20,
        "height": max((node.y for node in nodes), default=0) + _HIGH + 20,
        "left_out": 0 if of else len(known) - len(nodes),
        "rows": [_row(one, length_ns) for one in edges[:_LISTED]],
        "more_rows": max(0, len(edges) - _LISTED),
        "reason": clean(body["reason"] or ""),
        "json": "/api/v1/services?" + urlencode(form.window()),
    }


def _caller(edge: Json) -> Key:
    return "service", edge["caller"]


def _callee(edge: Json) -> Key:
    return edge["callee_type"], edge["callee"]


def _keys(body: Json, edges: Sequence[Json], troubled: set[str], of: str | None) -> list[Key]:
    """What is drawn: what is in trouble first, then what is called or calls most."""
    weight: dict[Key, int] = {}
    if of is None:
        weight |= {("service", one["service"]): one["requests"] for one in body["items"]}
    for one in edges:
        for key in (_caller(one), _callee(one)):
            weight[key] = weight.get(key, 0) + one["calls"]
    if of is not None:
        weight.setdefault(("service", of), 0)
    chosen = sorted(weight, key=lambda key: (key[1] != of, key[1] not in troubled, -weight[key], key))
    return chosen[:_NODES]


def _node(
    key: Key, place: tuple[int, float], service: Json | None, length_ns: int, form: Form, troubled: set[str]
) -> Node:
    name = clean(key[1]) or "(no name)"
    figures = ""
    if service is not None and key[0] == "service":
        figures = f"{rate(service['requests'], length_ns)} · p95 {human(service['p95_ns'])}"
        if service["errors"]:
            figures += f" · {share(service['errors'], service['requests'])}"
    return Node(
        x=10 + place[0] * _ACROSS,
        y=round(10 + place[1] * _DOWN, 1),
        name=name,
        cut=name if len(name) <= _NAME else name[: _NAME - 1] + "…",
        figures=figures,
        link="/service?" + urlencode({"service": key[1], **form.window()}) if key[0] == "service" and key[1] else "",
        is_service=key[0] == "service",
        in_incident=key[1] in troubled,
    )


def _call(
    one: Json, rows: Sequence[float], places: Mapping[Key, tuple[int, float]], length_ns: int, troubled: set[str]
) -> Call:
    """A curve from the caller's right side to the callee's left; back to an earlier layer it runs below."""
    first, last = places[_caller(one)][0], places[_callee(one)][0]
    middles = [10 + row * _DOWN + _HIGH / 2 for row in rows]
    if last > first:
        stops = [(10 + first * _ACROSS + _WIDE, middles[0])]
        for layer, y in zip(range(first + 1, last), middles[1:-1], strict=True):
            stops += [(10 + layer * _ACROSS, y), (10 + layer * _ACROSS + _WIDE, y)]
        stops.append((10 + last * _ACROSS - 6, middles[-1]))
    else:
        stops = [(10 + first * _ACROSS + _WIDE, middles[0] + 12), (10 + last * _ACROSS - 6, middles[-1] + 12)]
    path = f"M{stops[0][0]:g} {stops[0][1]:g}"
    for (x, y), (to_x, to_y) in pairwise(stops):
        bend = (to_x - x) / 2 if to_x > x else 60
        path += f"C{x + bend:g} {y:g} {to_x - bend:g} {to_y:g} {to_x:g} {to_y:g}"
    (x, y), (to_x, to_y) = stops[0], stops[1]
    figures = f"{rate(one['calls'], length_ns)} · {human(one['p95_ns'])}"
    errors = share(one["errors"], one["calls"])
    return Call(
        path=path,
        x=round((x + to_x) / 2, 1),
        y=round((y + to_y) / 2 - 5, 1),
        figures=figures if not one["errors"] else f"{figures} · {errors}",
        told=f"{clean(one['caller'])} calls {clean(one['callee'])}: {figures} p95, {errors} failed",
        is_failing=bool(one["errors"]),
        in_incident=one["caller"] in troubled and one["callee"] in troubled,
    )


def _row(one: Json, length_ns: int) -> Row:
    return Row(
        caller=clean(one["caller"]) or "(no name)",
        callee=clean(one["callee"]) or "(no name)",
        kind=clean(one["callee_type"]),
        rate=rate(one["calls"], length_ns),
        errors=share(one["errors"], one["calls"]),
        p50=human(one["p50_ns"]),
        p95=human(one["p95_ns"]),
    )
