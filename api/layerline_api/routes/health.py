"""How the server is: ``GET /healthz`` and ``/readyz``."""

from __future__ import annotations

from typing import NotRequired

from flask import Blueprint
from typing_extensions import TypedDict

from layerline_api.declared import declared
from layerline_api.problems import Problem
from layerline_api.shared import Shared


class Status(TypedDict):
    """One word on how the server is."""

    status: str
    failures: NotRequired[list[str]]  # of threads that run again


def blueprint(shared: Shared) -> Blueprint:
    """Two addresses that answer without a window."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    @declared(Status, None, operation_id="healthz")
    def healthz() -> Status:
        """Whether the server runs."""
        return {"status": "ok"}

    @blueprint.get("/readyz")
    @declared(Status, None, problems=(503,), operation_id="readyz")
    def readyz() -> Status:
        """Whether data can be taken and questions answered; if not, why not.

        `failures`: threads of the server that ended by an exception since it began, and run again.
        """
        threads = shared.intake.measures.threads
        problems = [*threads.problems(), *shared.questions.health().problems]
        if problems:
            raise Problem(503, "; ".join(dict.fromkeys(problems)))
        if not shared.questions.ready():
            raise Problem(503, "the store is not ready: the server is ending")
        failures = [str(state) for state in threads.states() if state.failures]
        return {"status": "ready", "failures": failures} if failures else {"status": "ready"}

    return blueprint
