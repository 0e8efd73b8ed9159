"""Prometheus' query API for Grafana's data source and dashboards: ``/prometheus/api/v1/…``.

A data source of type Prometheus has the address ``http://127.0.0.1:4318/prometheus`` (`layerline docs asked`).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

import promql_parser as promql
from flask import Blueprint
from pydantic import Field

from layerline_api.declared import FORM, JSON, declared
from layerline_api.parameters import LAST_NS, Parameters, Read, instant_ns
from layerline_api.problems import Problem
from layerline_api.prometheus.answers import instant, ranged, success
from layerline_api.prometheus.evaluate import Evaluation, parsed
from layerline_api.prometheus.metrics import metrics
from layerline_api.prometheus.problems import BadData
from layerline_api.prometheus.reading import Reading, Series
from layerline_api.shared import Shared

View = TypeVar("View", bound=Callable[..., Any])

#: Steps of a window, as in Prometheus.
MOST_POINTS = 11_000
IN_JSON = (JSON,)
#: Where no window is said, series are looked for in so much of the time before now.
_LOOK_BACK_NS = 3600 * 10**9
_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,6}(ms|[smhdwy]))+", re.ASCII)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,200}", re.ASCII)


def _moment(name: str, text: str) -> int:
    if _SECONDS.fullmatch(text):
        found_ns = round(float(text) * 1e9)
        if found_ns <= LAST_NS:
            return found_ns
    if ":" in text:
        return instant_ns(name, text)
    raise Problem(
        400, f"{name} is {text[:80]!r}; expected seconds since 1970 or a time such as 2026-11-23T10:00:00Z", name
    )


def _step(name: str, text: str) -> int:
    found_ns = 0
    if _SECONDS.fullmatch(text):
        found_ns = round(float(text) * 1e9)
    elif _DURATION.fullmatch(text):
        found_ns = promql.parse_duration(text) // _MICROSECOND * 1_000
    if not 0 < found_ns < LAST_NS:
        raise Problem(400, f"{name} is {text[:80]!r}; expected seconds or a duration such as 15s, above zero", name)
    return found_ns


def _label(name: str, text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise Problem(400, f"{name} is {text[:80]!r}; expected a label's name", name)
    return text


def _limit(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Problem(400, f"{name} is {text[:80]!r}; expected a whole number, 0 for all", name)
    return int(text)


_MICROSECOND = promql.parse_duration("1ms") / 1000

Query = Annotated[str, Read(lambda _, text: text, {"type": "string", "examples": ["1+1"]}, ("1", "2"))]
Moment = Annotated[int, Read(_moment, {"type": "string", "examples": ["1795428000"]}, ("1795428000", "1795428060"))]
End = Annotated[int, Read(_moment, {"type": "string", "examples": ["1795428300"]}, ("1795428300", "1795428360"))]
Step = Annotated[int, Read(_step, {"type": "string", "examples": ["15s"]}, ("15s", "30"))]
LabelName = Annotated[str, Read(_label, {"type": "string", "pattern": f"^{_LABEL.pattern}$"}, ("service", "cause"))]
Match = Annotated[
    str,
    Read(
        lambda _, text: text,
        {"type": "string", "examples": ["layerline_requests_total"]},
        ("layerline_requests_total", 'container_cpu_time_seconds_total{container="web"}'),
    ),
]
Most = Annotated[int, Read(_limit, {"type": "integer", "minimum": 0}, ("1", "2"))]
MetricName = Annotated[
    str,
    Read(lambda _, text: text, {"type": "string"}, ("layerline_requests_total", "layerline_lost_seconds_total")),
]


class Asked(Parameters):
    """Prometheus' clients send more than is used here."""

    others_pass = True


class InstantQuery(Asked):
    """An expression at one moment."""

    query: Annotated[Query, Field(description="an expression in PromQL")]
    time: Annotated[Moment | None, Field(description="seconds since 1970, or RFC 3339; now unless said")] = None


class RangeQuery(Asked):
    """An expression at each step of a window."""

    query: Annotated[Query, Field(description="an expression in PromQL")]
    start: Annotated[Moment, Field(description="seconds since 1970, or RFC 3339")]
    end: Annotated[End, Field(description="seconds since 1970, or RFC 3339")]
    step: Annotated[Step, Field(description="seconds, or a duration")]

    def steps(self) -> list[int]:
        """The moments that are asked for."""
        if self.end < self.start:
            raise BadData("the end of the window is before its start", "end")
        points = (self.end - self.start) // self.step + 1
        if points > MOST_POINTS:
            raise BadData(
                f"step gives {points:,} points, more than {MOST_POINTS:,}; expected"
                f" {math.ceil((self.end - self.start) / (MOST_POINTS - 1) / 1e9):,}s or more",
                "step",
            )
        return [self.start + number * self.step for number in range(points)]


class Matching(Asked):
    """Which series, and of when."""

    match: Annotated[
        tuple[Match, ...], Field(alias="match[]", description="a selector, repeatable; all unless said")
    ] = ()
    start: Annotated[Moment | None, Field(description="an hour ago unless said")] = None
    end: Annotated[End | None, Field(description="now unless said")] = None
    limit: Annotated[Most, Field(description="how many at most; 0 for all")] = 0

    def window(self) -> tuple[int, int]:
        """From when to when."""
        to_ns = time.time_ns() if self.end is None else self.end
        from_ns = max(0, to_ns - _LOOK_BACK_NS) if self.start is None else self.start
        if from_ns > to_ns:
            raise BadData("the end of the window is before its start", "end")
        return from_ns, to_ns + 1

    def selectors(self) -> list[promql.VectorSelector]:
        """What ``match[]`` says."""
        found = [parsed(text, "match[]") for text in self.match]
        wrong = next((text for text, one in zip(self.match, found, strict=True) if not _selects(one)), None)
        if wrong is not None:
            raise BadData(f"match[] is {wrong[:80]!r}; expected a selector such as layerline_requests_total", "match[]")
        return [one for one in found if isinstance(one, promql.VectorSelector)]

    def limited(self, found: list[Any]) -> list[Any]:
        """At most so many as are wanted."""
        return found[: self.limit] if self.limit else found


class MatchingLabel(Matching):
    """The values of one label."""

    name: LabelName


class OneMetric(Asked):
    """Which metrics."""

    metric: Annotated[MetricName | None, Field(description="one of them; all unless said")] = None
    limit: Annotated[Most, Field(description="how many at most; 0 for all")] = 0


_REQUESTS = [one for one in (promql.parse("layerline_requests_total"),) if isinstance(one, promql.VectorSelector)]


def _selects(expression: promql.Expr) -> bool:
    return isinstance(expression, promql.VectorSelector)


def blueprint(shared: Shared) -> Blueprint:
    """``/prometheus/api/v1/…``."""
    blueprint = Blueprint("prometheus", __name__, url_prefix="/prometheus/api/v1")
    questions = shared.questions

    def described(asked: Matching) -> list[Series]:
        return Reading(questions).described(asked.selectors(), *asked.window())

    def by_get_and_post(address: str, asked: type[Parameters], name: str) -> Callable[[View], View]:
        """What can be asked for in the query string and in a form: two routes, one view."""

        def both(view: View) -> View:
            for method, body_in in (("get", ()), ("post", (FORM,))):
                made = declared(
                    dict[str, Any],
                    asked,
                    problems=(422, 503),
                    problems_in=IN_JSON,
                    body_in=body_in,
                    operation_id=f"prometheus.{name}" if method == "get" else f"prometheus.{name}_by_form",
                )(view)
                blueprint.add_url_rule(
                    address,
                    endpoint=name if method == "get" else f"{name}_by_form",
                    view_func=made,
                    methods=[method.upper()],
                )
            return view

        return both

    @by_get_and_post("/query", InstantQuery, "query")
    def query(asked: InstantQuery) -> dict[str, Any]:
        """An expression at one moment."""
        at_ns = time.time_ns() if asked.time is None else asked.time
        return success(instant(Evaluation(Reading(questions), [at_ns]).of(parsed(asked.query)), at_ns))

    @by_get_and_post("/query_range", RangeQuery, "query_range")
    def query_range(asked: RangeQuery) -> dict[str, Any]:
        """An expression at each step of a window."""
        steps = asked.steps()
        return success(ranged(Evaluation(Reading(questions), steps).of(parsed(asked.query)), steps))

    @by_get_and_post("/series", Matching, "series")
    def series(asked: Matching) -> dict[str, Any]:
        """The series that selectors name, by their labels."""
        if not asked.match:
            raise BadData("no match[] parameter provided", "match[]")
        return success(asked.limited([{"__name__": one.name, **dict(one.labels)} for one in described(asked)]))

    @by_get_and_post("/labels", Matching, "labels")
    def labels(asked: Matching) -> dict[str, Any]:
        """The names of labels, of the series that selectors name or of all metrics."""
        if asked.match:
            names = {key for one in described(asked) for key, _ in one.labels}
        else:
            reading = Reading(questions)
            asked_any = bool(reading.described(_REQUESTS, *asked.window()))
            listed = [metrics()[name] for name in reading.names()]
            names = {key for one in listed if asked_any or one.source == "readings" for key in one.labels}
        return success(asked.limited(sorted(names | {"__name__"})))

    @blueprint.get("/label/<name>/values")
    @declared(
        dict[str, Any],
        MatchingLabel,
        problems=(422, 503),
        problems_in=IN_JSON,
        operation_id="prometheus.label_values",
    )
    def label_values(asked: MatchingLabel) -> dict[str, Any]:
        """The values of a label, of the series that selectors name or of all metrics that have it."""
        reading, selectors = Reading(questions), asked.selectors()
        if asked.name == "__name__" and not selectors:
            return success(asked.limited(reading.names()))
        if not selectors:
            having = [name for name in reading.names() if asked.name in metrics()[name].labels]
            selectors = [one for name in having if isinstance(one := parsed(name), promql.VectorSelector)]
        found = reading.described(selectors, *asked.window())
        values = (
            {one.name for one in found}
            if asked.name == "__name__"
            else {dict(one.labels).get(asked.name) for one in found}
        )
        return success(asked.limited(sorted(value for value in values if value)))

    @blueprint.get("/metadata")
    @declared(dict[str, Any], OneMetric, problems_in=IN_JSON, operation_id="prometheus.metadata")
    def metadata(asked: OneMetric) -> dict[str, Any]:
        """What each metric counts, and how."""
        found = {
            metric.family or metric.name: [{"type": metric.type, "help": metric.help, "unit": ""}]
            for metric in metrics().values()
            if asked.metric in (None, metric.name, metric.family)
        }
        return success(dict(list(found.items())[: asked.limit or None]))

    @blueprint.get("/status/buildinfo")
    @declared(dict[str, Any], Asked, problems_in=IN_JSON, operation_id="prometheus.buildinfo")
    def buildinfo() -> dict[str, Any]:
        """Which version this is. Grafana chooses by it how it asks."""
        # The first figure is that of the API that is answered; whose it is stands in `revision`.
        return success(
            {
                "version": "3.0.0",
                "revision": f"layerline {version('layerline')}",
                "branch": "",
                "buildUser": "",
                "buildDate": "",
                "goVersion": "",
            }
        )

    return blueprint
