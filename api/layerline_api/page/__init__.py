"""The pages, in HTML: every file here that has an ``add(blueprint, shared)`` is a page; the list is this folder.

A page is named as the route is that answers the same: it asks what that would be asked, with the same models of
parameters, shows the answer and works nothing out by itself. Nothing is loaded from elsewhere, and every page is
complete without its scripts. What pages share: the look (``style.css``), the frame (``base.html``), what is asked for
(``form.py``, ``_form.html``), and small parts (``_parts.html``: times, names, layers).
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from flask import Blueprint, Response, render_template, request

from layerline_api.declared import Declared, declared
from layerline_api.guard import COOKIE, session_holder
from layerline_api.page.form import HTML, WINDOWS
from layerline_api.problems import Problem
from layerline_api.shared import Shared

_HERE = Path(__file__).parent
_TITLES = {
    400: "This address asks for something that is not there to be asked",
    403: "This is not allowed",
    404: "There is nothing here",
    500: "The server failed to answer",
    503: "Not now",
}
_ADVICE = {
    404: "Requests, readings and incidents are deleted when they are older than the server keeps them"
    " (LAYERLINE_RETAIN). An address that somebody sent may be of another server.",
    503: "The server has too much to do at the moment. Ask again in some seconds, or for a shorter time.",
}
_KEPT = {"Cache-Control": "max-age=3600"}
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
#: How a script or a style sheet says what it is.
_COMMENT = re.compile(r"(?://|/\*)\s*(.*?\.)(?=\s|$)")


def pages() -> Mapping[str, ModuleType]:
    """The modules of the pages, by the names of their files."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return {name: module for name, module in found.items() if hasattr(module, "add")}


def files() -> Mapping[str, tuple[str, str, str]]:
    """What is served as it stands, by name: its text, its content type, and what it is (its first comment).

    Each script, style sheet and picture in this folder is one.
    """
    found = {}
    for path in sorted(_HERE.iterdir()):
        if (kind := _TYPES.get(path.suffix)) is not None:
            text = path.read_text(encoding="utf-8")
            said = _COMMENT.match(text)
            found[path.name] = text, kind, said[1].strip() if said else f"The pages' file {path.name}."
    return found


def blueprint(shared: Shared) -> Blueprint:
    """All pages, and the files that they are shown with."""
    blueprint = Blueprint("page", __name__, template_folder=".")
    served = files()
    # In the addresses of all, so that no browser shows a new page with an old style.
    version = sha256("".join(text for text, *_ in served.values()).encode()).hexdigest()[:8]
    for name, (text, kind, about) in served.items():
        blueprint.add_url_rule(f"/{name}", re.sub(r"\W", "_", name), _serving(text, kind, about))

    menu = [(one.path, one.name) for one in sorted(page.MENU for page in pages().values() if hasattr(page, "MENU"))]

    @blueprint.context_processor
    def everywhere() -> dict[str, object]:
        theme = request.cookies.get("layerline_theme", "")
        return {
            "version": version,
            "windows": WINDOWS,
            "menu": menu,
            "theme": theme if theme in ("light", "dark") else "",
            "may_log_out": session_holder(request.cookies.get(COOKIE, ""), shared.settings.all_tokens) is not None,
        }

    for page in pages().values():
        page.add(blueprint, shared)
    return blueprint


def problem_page(problem: Problem) -> Response:
    """What a browser shows in the place of an answer: what is wrong, and what to do."""
    html = render_template(
        "problem.html",
        status=problem.status,
        title=_TITLES.get(problem.status, "This could not be answered"),
        detail=problem.detail.rstrip("."),
        advice=_ADVICE.get(problem.status, ""),
    )
    return Response(html, problem.status, content_type=HTML)


def _serving(text: str, kind: str, about: str) -> Declared:
    """A view of one file."""

    def view() -> Response:
        return Response(text, content_type=kind, headers=_KEPT)

    view.__doc__ = about
    return declared(parameters=None, answers_in=(kind,))(view)
