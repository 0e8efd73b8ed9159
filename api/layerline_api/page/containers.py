"""Which containers a query holds for, the dead included, and how slow their requests were (`layerline docs query`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, Form, answer
from layerline_api.parameters import Window, query_of
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_api.words.amounts import amount
from layerline_api.words.clean import clean
from layerline_api.words.containers import duration, slow_share
from layerline_api.words.times import when
from layerline_correlator.plain import plain
from layerline_correlator.questions.questions import Questions
from layerline_correlator.store.patience import TooHeavy

MENU = Entry(6, "/containers", "Containers")
ROWS = 100
EXAMPLES = (
    "image:*",
    "container:* cpu.throttled > 2 * median(cpu.throttled) over 1h",
    "container:* memory.working_set > 1.5 * avg(memory.working_set by image)",
    "container:* requests.p95 > 500ms",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A container, as text."""

    name: str
    about: str
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
    @declared(None, Form, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def containers_page(asked: Form) -> Response:
        """The page of a tag query: the containers that it holds for."""
        return answer("containers.html", asked, shared.questions, lambda: _found(asked, shared.questions))


def _found(form: Form, questions: Questions) -> dict[str, Any]:
    text = form.fields().get("q", "")
    if not text:
        return {"examples": [(one, "/containers?" + urlencode({"q": one})) for one in EXAMPLES]}
    query = query_of("q", text)
    from_ns, to_ns = form.parameters(Window).window()
    over_ns = query.over_ns or to_ns - from_ns
    try:
        body = plain(questions.containers(replace(query, over_ns=over_ns), to_ns, ROWS))
    except TooHeavy as problem:
        raise Problem(400, f"{problem}; ask about a shorter time, or fewer containers", "q") from None
    return {
        "rows": [_row(one, body) for one in body["items"]],
        "more": body["next"] is not None,
        "reason": clean(body["reason"] or ""),
        "stretch": f"{when(body['from'])[:19]} to {when(body['to'])[:19]} UTC",
        "unknown": [
            (clean(one["entity"]["name"]), clean(one["signal"]), clean(one["reason"]).removeprefix("not measured: "))
            for one in body["not_measured"]["items"]
        ],
        "unknown_count": body["not_measured"]["count"],
        "is_compared": bool(query.comparisons),
    }


def _row(one: Mapping[str, Any], body: Mapping[str, Any]) -> Row:
    compared, served = one["comparisons"], one["requests"]
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
        values=[f"{clean(each['signal'])} {amount(each['value'], each['unit'])}" for each in compared],
        group="" if one["group_value"] is None else amount(one["group_value"], unit),
        ratio="" if one["ratio"] is None else f"{one['ratio']:.2f}",
        requests="–" if served is None else f"{served['count']:,}",
        p50=duration(served, "p50_ns"),
        p95=duration(served, "p95_ns"),
        slow=slow_share(served),
        link="/timeline?" + urlencode({"entity": f"container:{one['entity']['id']}"} | window),
    )
