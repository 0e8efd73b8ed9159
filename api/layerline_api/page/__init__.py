"""The pages: where an investigation starts, one incident, a timeline, containers, one request's ledger.

They show what the API answers and work nothing out by themselves. Nothing is loaded from elsewhere, and nothing but the
completion of tags needs the script.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from flask import Blueprint, Response

from layerline_api.declared import declared
from layerline_api.page import containers, incident, one_request, start, timeline
from layerline_api.page.form import WINDOWS
from layerline_correlator.questions.questions import Questions

_HERE = Path(__file__).parent
_KEPT = {"Cache-Control": "max-age=3600"}
_CSS, _JS, _SVG = "text/css; charset=utf-8", "text/javascript; charset=utf-8", "image/svg+xml"


def page(questions: Questions) -> Blueprint:
    """``/``, ``/incidents/<id>``, ``/timeline``, ``/containers``, ``/requests/<trace_id>``, style sheet and script."""
    blueprint = Blueprint("page", __name__, template_folder=".")
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    script = (_HERE / "complete.js").read_text(encoding="utf-8")
    icon = (_HERE / "icon.svg").read_text(encoding="utf-8")
    # In the addresses of both, so that no browser shows a new page with an old style.
    version = sha256((style + script).encode()).hexdigest()[:8]

    @blueprint.get("/style.css")
    @declared(parameters=None, answers_in=(_CSS,))
    def style_sheet() -> Response:
        """The pages' style sheet."""
        return Response(style, content_type=_CSS, headers=_KEPT)

    @blueprint.get("/complete.js")
    @declared(parameters=None, answers_in=(_JS,))
    def completion() -> Response:
        """The pages' script: completes tags in the query box."""
        return Response(script, content_type=_JS, headers=_KEPT)

    @blueprint.get("/icon.svg")
    @declared(parameters=None, answers_in=(_SVG,))
    def tab_icon() -> Response:
        """The pages' sign in a browser's tabs."""
        return Response(icon, content_type=_SVG, headers=_KEPT)

    @blueprint.context_processor
    def everywhere() -> dict[str, object]:
        return {"version": version, "windows": WINDOWS}

    for one in (start, incident, timeline, containers, one_request):
        one.add(blueprint, questions)
    return blueprint
