"""What every layer did at the same moment (`layerline docs timeline`).

It is asked for tags, a service or operation, a container or host (``entity``), or one request (``trace_id``).
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from flask import Blueprint, Response
from pydantic import Field

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, Form, answer
from layerline_api.page.picture import pictured
from layerline_api.parameters import AnyText
from layerline_api.problems import Problem
from layerline_api.routes.timeline import TimelineParameters
from layerline_api.shared import Shared
from layerline_api.words.clean import clean, titles_of
from layerline_api.words.times import ns_of
from layerline_correlator.plain import plain
from layerline_correlator.questions.questions import Questions
from layerline_correlator.questions.timeline import TimelineQuery
from layerline_correlator.store.patience import TooHeavy

MENU = Entry(7, "/timeline", "Timeline")


class TimelineForm(Form):
    """What the timeline is of."""

    entity: Annotated[AnyText, Field(description="container:NAME_OR_ID or host:NAME_OR_ID")] = ""
    trace_id: Annotated[AnyText, Field(description="one request, and a little around it")] = ""

    def window(self) -> dict[str, str]:
        """A request needs none."""
        return {} if self.trace_id and not self.is_timed else super().window()


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/timeline``."""

    @blueprint.get(MENU.path)
    @declared(None, TimelineForm, problems=(404,), answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def timeline_page(asked: TimelineForm) -> Response:
        """The page of a timeline: every layer at the same moment."""
        return answer("timeline.html", asked, shared.questions, lambda: _found(asked, shared.questions))


def _found(form: TimelineForm, questions: Questions) -> dict[str, Any]:
    body = ask(questions, form.parameters(TimelineParameters).query())
    titles = titles_of(questions.causes())
    return {
        "picture": pictured(body, titles, moments_ns=_began_and_ended(form, questions)),
        "reason": clean(body["reason"] or ""),
        "of": [clean(body[name]) for name in ("service", "operation") if body[name]],
        "around": (ns_of(body["from"]), ns_of(body["to"])),
        "json": "/api/v1/timeline?" + urlencode(_as_api(form)),
    }


def ask(questions: Questions, query: TimelineQuery) -> dict[str, Any]:
    """The timeline's JSON. ``Problem`` where there is none."""
    try:
        found = questions.timeline(query)
    except TooHeavy as problem:
        raise Problem(400, f"{problem}; ask for a shorter window, or narrow it by service or tag") from None
    if found is None:
        raise Problem(404, f"there is no request with trace id {query.trace_id}", "trace_id")
    body: dict[str, Any] = plain(found)
    return body


def _began_and_ended(form: TimelineForm, questions: Questions) -> tuple[int, ...]:
    """Of the one request that is asked for; nothing where it is not one."""
    verdict = questions.verdict(form.trace_id) if form.trace_id else None
    if verdict is None:
        return ()
    start_ns = ns_of(verdict.start)
    return start_ns, start_ns + verdict.duration_ns


def _as_api(form: TimelineForm) -> dict[str, str]:
    return form.of_api() | form.window()
