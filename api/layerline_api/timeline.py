"""``GET /api/v1/timeline``: what every layer did at the same moment."""

from __future__ import annotations

from flask import Blueprint, Response, request

from layerline_api.answers import as_json
from layerline_api.parameters import WINDOW, Arguments, check, identifier, request_query
from layerline_api.problems import Problem
from layerline_correlator.query import Questions, TooHeavy
from layerline_correlator.settings import duration_ns
from layerline_correlator.timeline import SIGNALS, StepTooFine, TimelineQuery

OF = ("service", "operation", "entity", "tag")
ENTITIES = ("container", "host")


def timeline(questions: Questions) -> Blueprint:
    """The timeline of a request, an operation, an entity or tags, as JSON."""
    blueprint = Blueprint("timeline", __name__, url_prefix="/api/v1")

    @blueprint.get("/timeline")
    def timeline() -> Response:
        check(request.args, ("trace_id", *OF, *WINDOW, "step", "signal"))
        query = timeline_query(request.args)
        try:
            found = questions.timeline(query)
        except StepTooFine as problem:
            raise Problem(400, f"step is {request.args.get('step', '')[:80]!r}: {problem}", "step") from None
        except TooHeavy as problem:
            raise Problem(400, f"{problem}; ask for a shorter window or fewer signals") from None
        if found is None:
            raise Problem(404, f"there is no request with trace id {query.trace_id}")
        return as_json(found)

    return blueprint


def timeline_query(arguments: Arguments) -> TimelineQuery:
    """What is asked for. ``Problem`` 400 names the field."""
    asked = request_query(arguments)
    trace_id = arguments.get("trace_id")
    if trace_id is not None:
        identifier("trace_id", trace_id)
        beside = next((name for name in OF if name in arguments), None)
        if beside is not None:
            raise Problem(400, f"{beside} is given beside trace_id, which names one request", beside)
    around = trace_id is not None and not any(name in arguments for name in WINDOW)
    return TimelineQuery(
        from_ns=None if around else asked.from_ns,
        to_ns=None if around else asked.to_ns,
        trace_id=trace_id,
        service=asked.service,
        operation=asked.operation,
        entity=_entity(arguments.get("entity")),
        tags=asked.tags,
        step_ns=_step(arguments.get("step")),
        signals=_signals(arguments.get("signal")),
    )


def _entity(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    kind, _, identity = text.partition(":")
    if kind not in ENTITIES or not identity:
        raise Problem(400, f"entity is {text[:80]!r}; expected container:NAME_OR_ID or host:NAME_OR_ID", "entity")
    return kind, identity


def _step(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        found = duration_ns(text[:40])
    except (ValueError, OverflowError):
        found = 0
    if not 0 < found < 2**62:
        raise Problem(400, f"step is {text[:80]!r}; expected a duration such as 500ms or 10s", "step")
    return found


def _signals(text: str | None) -> tuple[str, ...]:
    """Names or patterns with ``*``, separated by commas. What else a pattern could say is taken as it is."""
    if text is None:
        return SIGNALS
    patterns = tuple(part.strip() for part in text.split(","))
    if not all(patterns) or len(patterns) > 50:
        raise Problem(
            400, f"signal is {text[:80]!r}; expected names such as container.cpu.*, separated by commas", "signal"
        )
    return tuple(pattern.replace("[", "[[]").replace("?", "[?]") for pattern in patterns)
