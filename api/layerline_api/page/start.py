"""Incidents, the ongoing ones first; what changed in the last 15 minutes; the slow requests of that time.

Where there are none it says why: nothing received, nothing changed, nothing slow, no usual yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, Form, answer
from layerline_api.parameters import RequestParameters, VerdictParameters
from layerline_api.routes.incidents import IncidentParameters
from layerline_api.shared import Shared
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean
from layerline_api.words.times import when
from layerline_api.words.verdicts import Story, tell
from layerline_correlator.plain import plain
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.questions.questions import Questions
from layerline_correlator.questions.requests import RequestItem

MENU = Entry(1, "/", "Now")
ROWS, INCIDENTS, CHANGED = 100, 20, 3
#: Incidents are shown of so long at least, unless exact times are asked for: who was woken asks about the night.
_INCIDENTS_NS = 24 * 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Row:
    """A slow request in the list. Widths are in hundredths of the longest."""

    service: str
    operation: str
    cause: str
    layer: str
    took: str
    usual: str
    width: float
    usual_width: float
    start: str
    link: str


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident in the list."""

    summary: str
    layer: str
    since: str
    took: str  # "" while it goes on
    affected: str
    link: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What changed in one operation, and a request that shows it ("" where there is none)."""

    story: Story
    link: str


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/``."""

    @blueprint.get(MENU.path)
    @declared(None, Form, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def slow_requests(asked: Form) -> Response:
        """The page: incidents, and slow requests of the last minutes."""
        return answer("start.html", asked, shared.questions, lambda: _found(asked, shared.questions))


def _found(form: Form, questions: Questions) -> dict[str, Any]:
    titles = {cause["cause"]: str(cause["title"]) for cause in questions.causes()}
    query = form.parameters(RequestParameters).query()
    of = form.parameters(IncidentParameters)
    from_ns, to_ns = of.window()
    is_longer = not form.is_exact and to_ns - from_ns < _INCIDENTS_NS
    from_ns = to_ns - _INCIDENTS_NS if is_longer else from_ns
    incidents, more, why_none = [], False, None
    for state in ("open", "ended"):
        page = questions.incidents.list(IncidentQuery(from_ns, to_ns, state, of.service, of.operation, None, INCIDENTS))
        incidents += [_incident(one) for one in page.items]
        more = more or page.next is not None
        why_none = page.reason
    changed = questions.verdicts(replace(form.parameters(VerdictParameters).query(), limit=CHANGED))
    stories = [tell(plain(one), questions.causes()) for one in changed.items]
    found = questions.requests(query)
    longest_ns = max((item.duration_ns for item in found.items), default=0) or 1
    return {
        "incidents": incidents,
        "incidents_of": "of the last 24 hours" if is_longer else form.stretch,
        "more_incidents": more,
        "why_no_incidents": clean(why_none or "no operation was in trouble"),
        "changed": [
            Changed(story, f"/requests/{quote(story.examples[0])}" if story.examples else "")
            for story in stories
            if not story.is_quiet
        ],
        "why_no_change": clean(changed.reason or "nothing changed: every operation takes what it took before"),
        "rows": [_row(item, titles, longest_ns) for item in found.items],
        "more_rows": found.next is not None,
        "reason": clean(found.reason or "no request was slow"),
    }


def _incident(one: Mapping[str, Any]) -> IncidentRow:
    return IncidentRow(
        summary=clean(one["summary"]),
        layer=clean(one["cause"] or "").partition(".")[0],
        since=when(one["start"])[:19],
        took="" if one["state"] == "open" else human(one["duration_ns"]),
        affected=f"{one['affected']:,} of {one['requests']:,}",
        link=f"/incidents/{quote(one['id'])}",
    )


def _row(item: RequestItem, titles: Mapping[str, str], longest_ns: int) -> Row:
    return Row(
        service=clean(item.service),
        operation=clean(item.operation),
        cause=clean(titles.get(item.cause or "", item.cause or "no single cause")),
        layer=(item.cause or "").partition(".")[0],
        took=human(item.duration_ns),
        usual="" if item.usual_ns is None else human(item.usual_ns),
        width=round(100 * item.duration_ns / longest_ns, 1),
        usual_width=round(100 * min(item.usual_ns or 0, item.duration_ns) / longest_ns, 1),
        start=clean(item.start).replace("T", " ")[:19],
        link=f"/requests/{quote(item.trace_id)}?span_id={quote(item.span_id)}",
    )
