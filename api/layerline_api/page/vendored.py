"""Other people's files that the pages are shown with: unchanged, below ``vendor``, each with its licence beside it.

uPlot 1.6.32 (https://github.com/leeoniya/uPlot, MIT): cursors and zooming of lanes (``lanes.js``).
"""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response

from layerline_api.declared import declared

_VENDOR = Path(__file__).parent / "vendor"
#: As long as a year: the version stands in the address.
_KEPT = {"Cache-Control": "max-age=31536000"}
_JS, _CSS = "text/javascript; charset=utf-8", "text/css; charset=utf-8"


def serve(blueprint: Blueprint) -> None:
    """``/vendor/uplot-1.6.32.js`` and its style sheet."""
    script = (_VENDOR / "uPlot.iife.min.js").read_bytes()
    style = (_VENDOR / "uPlot.min.css").read_bytes()

    @blueprint.get("/vendor/uplot-1.6.32.js")
    @declared(parameters=None, answers_in=(_JS,))
    def uplot() -> Response:
        """uPlot, the library of the lanes."""
        return Response(script, content_type=_JS, headers=_KEPT)

    @blueprint.get("/vendor/uplot-1.6.32.css")
    @declared(parameters=None, answers_in=(_CSS,))
    def uplot_style() -> Response:
        """uPlot's style sheet."""
        return Response(style, content_type=_CSS, headers=_KEPT)
