"""The pages, in HTML: every file here that has an ``add(blueprint, shared)`` is a page; the list is this folder.

A page is named as the route is that answers the same: it asks what that would be asked, with the same models of
parameters, shows the answer and works nothing out by itself. Nothing is loaded from elsewhere, and nothing but the
completion of tags needs the script.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from flask import Blueprint, Response

from layerline_api.declared import declared
from layerline_api.page.form import WINDOWS
from layerline_api.shared import Shared

_HERE = Path(__file__).parent
_KEPT = {"Cache-Control": "max-age=3600"}
_CSS, _JS, _SVG = "text/css; charset=utf-8", "text/javascript; charset=utf-8", "image/svg+xml"


def pages() -> Mapping[str, ModuleType]:
    """The modules of the pages, by the names of their files."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return {name: module for name, module in found.items() if hasattr(module, "add")}


def blueprint(shared: Shared) -> Blueprint:
    """All pages, their style sheet and their script."""
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

    menu = [(one.path, one.name) for one in sorted(page.MENU for page in pages().values() if hasattr(page, "MENU"))]

    @blueprint.context_processor
    def everywhere() -> dict[str, object]:
        return {"version": version, "windows": WINDOWS, "menu": menu}

    for page in pages().values():
        page.add(blueprint, shared)
    return blueprint
