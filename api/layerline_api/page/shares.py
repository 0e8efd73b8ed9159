"""What some requests have in common, against the others of the window: a rectangle in a service's heatmap."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Response
from pydantic import Field

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Form, answer
from layerline_api.parameters import AnyText
from layerline_api.routes.shares import SharesParameters
from layerline_api.shared import Shared
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean, titles_of
from layerline_correlator.plain import plain
from layerline_correlator.questions.questions import Questions


class SharesForm(Form):
    """Which requests are compared with the others."""

    picked_from: Annotated[AnyText, Field(description="they began at this time or later")] = ""
    picked_to: Annotated[AnyText, Field(description="they began before this time")] = ""
    min_duration: Annotated[AnyText, Field(description="they took at least so long")] = ""
    max_duration: Annotated[AnyText, Field(description="they took less")] = ""


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/shares``."""

    @blueprint.get("/shares")
    @declared(None, SharesForm, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def shares_page(asked: SharesForm) -> Response:
        """The page of what some requests have in common."""
        return answer("shares.html", asked, shared.questions, lambda: _found(asked, shared.questions))


def _found(form: SharesForm, questions: Questions) -> dict[str, Any]:
    asked = form.parameters(SharesParameters)
    titles = titles_of(questions.causes())
    picked = asked.picked()
    found = plain(questions.shares(asked.query(), picked))
    least, most = (None if value is None else human(value) for value in (picked.least_ns, picked.most_ns))
    took = {
        (False, False): "",
        (True, False): f"that took at least {least}",
        (False, True): f"that took less than {most}",
        (True, True): f"that took {least} to {most}",
    }[least is not None, most is not None]
    given = form.of_api()
    return {
        "took": took,
        "picked": f"{found['picked']:,}",
        "others": f"{found['others']:,}",
        "items": [
            (
                clean(one["key"]),
                titles.get(one["value"], clean(one["value"])) if one["key"] == "cause" else clean(one["value"]),
                f"{100 * one['affected_ratio']:.0f} %",
                f"{100 * one['others_ratio']:.0f} %",
                round(100 * one["affected_ratio"]),
                round(100 * one["others_ratio"]),
            )
            for one in found["items"]
        ],
        "examples": [
            {
                "link": f"/requests/{quote(one['trace_id'])}?span_id={quote(one['span_id'])}",
                "operation": clean(one["operation"]),
                "start": clean(one["start"]),
                "took": human(one["duration_ns"]),
                "cause": titles.get(one["cause"], clean(one["cause"] or "")),
                "layer": clean(one["cause"] or "").partition(".")[0],
                "failed": one["status"] == "error",
            }
            for one in found["examples"]
        ],
        "reason": clean(found["reason"] or ""),
        "json": "/api/v1/shares?" + urlencode(given | form.window()),
    }
