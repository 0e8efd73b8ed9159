"""The containers of a window, the living first: all of them, or those a query holds for (`layerline docs query`).

Each with its CPU and memory over the window and how slow its requests were, sorted by any column; the dead unfold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from flask import Blueprint, Response

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, Form, answer
from layerline_api.page.picture import line_of
from layerline_api.parameters import Read, Window, query_of
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_api.words.amounts import amount
from layerline_api.words.clean import clean
from layerline_api.words.containers import duration, slow_share
from layerline_api.words.times import when
from layerline_correlator.plain import plain
from layerline_correlator.questions.questions import Questions
from layerline_correlator.questions.timeline import STEPS_NS, TimelineQuery
from layerline_correlator.store.patience import TooBusy, TooHeavy
from layerline_correlator.tagquery.model import Query

MENU = Entry(6, "/containers", "Containers")
#: Containers that are asked for and sorted; of them so many are listed, and so many have small lines.
ASKED, ROWS, LINES = 1_000, 200, 100
#: Points of a small line, at most.
POINTS = 60
ALL = "container:*"
EXAMPLES = (
    "image:*",
    "container:* cpu.throttled > 2 * median(cpu.throttled) over 1h",
    "container:* memory.working_set > 1.5 * avg(memory.working_set by image)",
    "container:* requests.p95 > 500ms",
)
CPU, MEMORY = "container.cpu.time", "container.memory.working_set"
#: The columns that a list can be sorted by, and what they are called.
SORTS = {"name": "container", "cpu": "CPU", "memory": "memory", "requests": "requests", "p50": "p50", "p95": "p95",
         "slow": "slow"}  # fmt: skip


def _sort(name: str, text: str) -> str:
    if text and text not in SORTS:
        raise Problem(400, f"{name} is {text[:80]!r}; expected one of {', '.join(SORTS)}", name)
    return text


class ContainersForm(Form):
    """Which containers, and in which order."""

    sort: Annotated[str, Read(_sort, {"type": "string", "enum": ["", *SORTS]}, ("name", "requests"))] = ""


@dataclass(frozen=True, slots=True)
class Small:
    """A small line: its path, and its mean in words; "" where nothing was measured."""

    path: str = ""
    mean: str = ""
    of: float = -1.0


@dataclass(frozen=True, slots=True)
class Row:
    """A container, as text."""

    name: str
    about: str
    is_gone: bool
    cpu: Small
    memory: Small
    values: list[str]  # of each comparison, "signal value"
    group: str
    ratio: str
    requests: str
    p50: str
    p95: str
    slow: str
    link: str


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/containers``."""

    @blueprint.get(MENU.path)
    @declared(None, ContainersForm, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def containers_page(asked: ContainersForm) -> Response:
        """The page of containers: all of a window, or those that a query holds for."""
        return answer("containers.html", asked, shared.questions, lambda: _found(asked, shared.questions))


def _found(form: ContainersForm, questions: Questions) -> dict[str, Any]:
    query = query_of("q", form.fields().get("q", ALL))
    from_ns, to_ns = form.parameters(Window).window()
    over_ns = query.over_ns or to_ns - from_ns
    try:
        body = plain(questions.containers(replace(query, over_ns=over_ns), to_ns, ASKED))
    except TooHeavy as problem:
        raise Problem(400, f"{problem}; ask about a shorter time, or fewer containers", "q") from None
    lines = _lines(questions, query, to_ns - over_ns, to_ns)
    items = body["items"]
    if form.sort:
        items = sorted(items, key=lambda one: _place(form.sort, one, lines))
    elif not query.comparisons:
        items = sorted(items, key=lambda one: (clean(one["entity"]["name"]), one["entity"]["id"]))
    rows = [_row(one, body, lines) for one in items]
    live, gone = ([row for row in rows if row.is_gone is is_gone] for is_gone in (False, True))
    return {
        "live": live[:ROWS],
        "gone": gone[:ROWS],
        "gone_count": len(gone),
        "more": body["next"] is not None or max(len(live), len(gone)) > ROWS,
        "reason": clean(body["reason"] or ""),
        "stretch": f"{when(body['from'])[:19]} to {when(body['to'])[:19]} UTC",
        "unknown": [
            (clean(one["entity"]["name"]), clean(one["signal"]), clean(one["reason"]).removeprefix("not measured: "))
            for one in body["not_measured"]["items"]
        ],
        "unknown_count": body["not_measured"]["count"],
        "is_compared": bool(query.comparisons),
        "columns": [
            (name, title, f"{MENU.path}?{urlencode(form.fields() | {'sort': name})}") for name, title in SORTS.items()
        ],
        "json": "/api/v1/containers?"
        + urlencode(
            {
                "q": form.fields().get("q", ALL) + ("" if query.over_ns else f" over {max(1, over_ns // 10**9)}s"),
                **({"to": form.window()["to"]} if "to" in form.window() else {}),
            }
        ),
        "examples": [(one, f"{MENU.path}?{urlencode({'q': one})}") for one in EXAMPLES],
    }


def _lines(questions: Questions, query: Query, from_ns: int, to_ns: int) -> dict[tuple[str, str], Small]:
    """CPU and memory over the window by container and signal; nothing of any where that takes too long."""
    step_ns = next((step for step in STEPS_NS if (to_ns - from_ns) // step < POINTS), STEPS_NS[-1])
    try:
        found = questions.timeline(
            TimelineQuery(
                from_ns=from_ns,
                to_ns=to_ns,
                tags=(query.selection,),
                step_ns=step_ns,
                signals=(CPU, MEMORY),
                most_entities=LINES,
            )
        )
    except (TooHeavy, TooBusy):
        return {}
    lines: dict[tuple[str, str], list[float | int | None]] = {}
    units: dict[str, str] = {}
    for series in plain(found)["series"] if found is not None else ():
        if series["about"] == "readings" and series["entity"] is not None:
            key = (series["entity"]["id"], series["name"])
            lines[key] = _together(lines.get(key), series["values"])
            units[series["name"]] = series["unit"]
    return {key: _small(key[1], units[key[1]], values) for key, values in lines.items()}


def _together(
    before: list[float | int | None] | None, values: Sequence[float | int | None]
) -> list[float | int | None]:
    """The sum of a container's series: its CPU time may come by mode."""
    if before is None:
        return list(values)
    return [
        one if other is None else other if one is None else one + other
        for one, other in zip(before, values, strict=True)
    ]


def _small(signal: str, unit: str, values: Sequence[float | int | None]) -> Small:
    known = [float(value) for value in values if value is not None]
    if not known:
        return Small()
    mean = sum(known) / len(known)
    words = f"{mean:.2f}" if signal == CPU else amount(mean, unit)
    return Small(line_of(values, max(known)), words, mean)


def _place(sort: str, one: Mapping[str, Any], lines: Mapping[tuple[str, str], Small]) -> tuple[Any, ...]:
    """Where a container comes: the most first, those of which nothing is known last."""
    served, identity = one["requests"] or {}, one["entity"]["id"]
    figure = {
        "cpu": lines.get((identity, CPU), Small()).of,
        "memory": lines.get((identity, MEMORY), Small()).of,
        "requests": served.get("count"),
        "p50": served.get("p50_ns"),
        "p95": served.get("p95_ns"),
        "slow": served.get("slow_ratio"),
    }.get(sort, 0)
    return (-1.0 if figure is None else figure) * -1, clean(one["entity"]["name"]), identity


def _row(one: Mapping[str, Any], body: Mapping[str, Any], lines: Mapping[tuple[str, str], Small]) -> Row:
    compared, served, identity = one["comparisons"], one["requests"], one["entity"]["id"]
    unit = compared[0]["unit"] if compared else ""
    gone = {None: "not seen any more", True: f"gone since {when(one['to'])[11:19]}", False: ""}[one["gone"]]
    about = (
        f"image {clean(one['image'])}" if one["image"] else "",
        f"on {clean(one['host']['name'])}" if one["host"] else "",
        gone,
    )
    window = {"from": body["from"], "to": body["to"]}
    return Row(
        name=clean(one["entity"]["name"]),
        about=", ".join(filter(None, about)),
        is_gone=bool(one["gone"]),
        cpu=lines.get((identity, CPU), Small()),
        memory=lines.get((identity, MEMORY), Small()),
        values=[f"{clean(each['signal'])} {amount(each['value'], each['unit'])}" for each in compared],
        group="" if one["group_value"] is None else amount(one["group_value"], unit),
        ratio="" if one["ratio"] is None else f"{one['ratio']:.2f}",
        requests="–" if served is None else f"{served['count']:,}",
        p50=duration(served, "p50_ns"),
        p95=duration(served, "p95_ns"),
        slow=slow_share(served),
        link="/timeline?" + urlencode({"entity": f"container:{identity}"} | window),
    )
