"""``GET /api/v1/timeline``: what every layer did at the same moment."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint, request
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import Read, Tagged, Text, TraceId, Window
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.questions.timeline import SIGNALS, StepTooFine, Timeline, TimelineQuery
from layerline_correlator.settings import duration_ns
from layerline_correlator.store.patience import TooHeavy

ENTITIES = ("container", "host")


def _entity(name: str, text: str) -> tuple[str, str]:
    kind, _, identity = text.partition(":")
    if kind not in ENTITIES or not identity:
        raise Problem(400, f"{name} is {text[:80]!r}; expected container:NAME_OR_ID or host:NAME_OR_ID", name)
    return kind, identity


def _step(name: str, text: str) -> int:
    try:
        found = duration_ns(text[:40])
    except (ValueError, OverflowError):
        found = 0
    if not 0 < found < 2**62:
        raise Problem(400, f"{name} is {text[:80]!r}; expected a duration such as 500ms or 10s", name)
    return found


def _signals(name: str, text: str) -> tuple[str, ...]:
    """Names or patterns with ``*``, separated by commas. What else a pattern could say is taken as it is."""
    patterns = tuple(part.strip() for part in text.split(","))
    if not all(patterns) or len(patterns) > 50:
        raise Problem(
            400, f"{name} is {text[:80]!r}; expected names such as container.cpu.*, separated by commas", name
        )
    return tuple(pattern.replace("[", "[[]").replace("?", "[?]") for pattern in patterns)


Of = Annotated[
    tuple[str, str], Read(_entity, {"type": "string", "pattern": "^(container|host):.+$"}, ("container:web", "host:vm"))
]
Step = Annotated[int, Read(_step, {"type": "string", "pattern": r"^\d+(\.\d+)?(ns|us|ms|s|m|h|d)$"}, ("10s", "20s"))]
Signals = Annotated[
    tuple[str, ...], Read(_signals, {"type": "string", "minLength": 1}, ("container.cpu.*", "system.*"))
]


class TimelineParameters(Tagged, Window):
    """One request, or what service, operation, entity and tags leave together; all if none."""

    trace_id: Annotated[TraceId | None, Field(description="one request, and a little around it")] = None
    service: Annotated[Text | None, Field(description="service.name")] = None
    operation: Annotated[Text | None, Field(description="the entry span's name")] = None
    entity: Annotated[Of | None, Field(description="container:NAME_OR_ID or host:NAME_OR_ID")] = None
    step: Annotated[Step | None, Field(description="such as 10s; chosen to fit the window unless said")] = None
    signal: Annotated[Signals | None, Field(description="other readings: names or patterns, by commas")] = None

    def query(self) -> TimelineQuery:
        """What is asked for. ``Problem`` 400 names the field."""
        of = {"service": self.service, "operation": self.operation, "entity": self.entity, "tag": self.tag}
        if self.trace_id is not None and (beside := next((name for name, given in of.items() if given), None)):
            raise Problem(400, f"{beside} is given beside trace_id, which names one request", beside)
        around = self.trace_id is not None and self.since is None and self.from_ is None and self.to is None
        from_ns, to_ns = (None, None) if around else self.window()
        return TimelineQuery(
            from_ns=from_ns,
            to_ns=to_ns,
            trace_id=self.trace_id,
            service=self.service,
            operation=self.operation,
            entity=self.entity,
            tags=self.tag,
            step_ns=self.step,
            signals=self.signal or SIGNALS,
        )


def blueprint(shared: Shared) -> Blueprint:
    """The timeline of a request, an operation, an entity or tags, as JSON."""
    blueprint = Blueprint("timeline", __name__, url_prefix="/api/v1")

    @blueprint.get("/timeline")
    @declared(Timeline, TimelineParameters, problems=(404,), repeats=shared.questions)
    def timeline(asked: TimelineParameters) -> Any:
        """What every layer did at the same moment: aligned series, events and incidents; a gap is null, never zero."""
        query = asked.query()
        try:
            found = shared.questions.timeline(query)
        except StepTooFine as problem:
            raise Problem(400, f"step is {request.args.get('step', '')[:80]!r}: {problem}", "step") from None
        except TooHeavy as problem:
            raise Problem(400, f"{problem}; ask for a shorter window or fewer signals") from None
        if found is None:
            raise Problem(404, f"there is no request with trace id {query.trace_id}")
        return found

    return blueprint
