"""The text that `layerline why` and `layerline incidents ID` print, to be pasted into a chat."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint
from rich.text import Text

from layerline_api.declared import declared
from layerline_api.parameters import VerdictParameters
from layerline_api.problems import Problem
from layerline_api.routes.incidents import OneIncident
from layerline_api.routes.requests import OneRequest
from layerline_api.shared import Shared
from layerline_api.terminal.incidents import lines_of_incident
from layerline_api.terminal.verdicts import request, window
from layerline_api.words.clean import clean
from layerline_api.words.verdicts import tell
from layerline_correlator.plain import plain

PLAIN = "text/plain; charset=utf-8"


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/why``, ``/why/<trace_id>`` and ``/why/incidents/<incident>``."""

    @blueprint.get("/why")
    @declared(None, VerdictParameters, answers_in=(PLAIN,))
    def why(asked: VerdictParameters) -> str:
        """What `layerline why` prints of a window."""
        found = shared.questions.verdicts(asked.query())
        causes = shared.questions.causes()
        if not found.items:
            return f"{clean(found.reason or 'nothing changed in the window')}\n"
        return _text(window([tell(plain(one), causes) for one in found.items]))

    @blueprint.get("/why/<trace_id>")
    @declared(None, OneRequest, problems=(404,), answers_in=(PLAIN,))
    def why_one(asked: OneRequest) -> str:
        """What `layerline why TRACE_ID` prints."""
        verdict = shared.questions.verdict(asked.trace_id, asked.span_id, absolute=asked.rank == "lost")
        if verdict is None:
            raise Problem(404, f"there is no request with trace id {asked.trace_id}")
        return _text(request(tell(plain(verdict), shared.questions.causes())))

    @blueprint.get("/why/incidents/<incident>")
    @declared(None, OneIncident, problems=(404,), answers_in=(PLAIN,))
    def why_incident(asked: OneIncident) -> str:
        """What `layerline incidents ID` prints."""
        found = shared.questions.incidents.one(asked.incident)
        if found is None:
            raise Problem(404, f"there is no incident {asked.incident}")
        return _text(lines_of_incident(found, shared.questions.causes()))


def _text(lines: Sequence[Text]) -> str:
    """The lines without their colours."""
    return "".join(f"{line.plain.rstrip()}\n" for line in lines)
