"""What every route and page is made with."""

from __future__ import annotations

from dataclasses import dataclass

from layerline_api.doors.intake import Intake
from layerline_api.settings import ServerSettings
from layerline_correlator.questions.questions import Questions


@dataclass(frozen=True, slots=True)
class Shared:
    """One server's own: a route's ``blueprint(shared)`` and a page's ``add(blueprint, shared)`` take what they need."""

    questions: Questions
    settings: ServerSettings
    intake: Intake
