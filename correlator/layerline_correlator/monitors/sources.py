"""Where findings come from. A source is a function of a question's text and a moment (``model.Source``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any
from urllib.parse import quote

import duckdb
from pydantic import Field

from layerline_correlator.entity import Entity
from layerline_correlator.incidents.slo import Name, Promise, SloState, states_of_each
from layerline_correlator.monitors.model import CannotEvaluate, Evaluation, Finding, Group, Source
from layerline_correlator.plain import plain
from layerline_correlator.store.patience import TooHeavy
from layerline_correlator.tagquery.answer import Containers
from layerline_correlator.tagquery.model import BadQuery, Query
from layerline_correlator.tagquery.parse import parse
from layerline_correlator.times import rfc3339
from layerline_correlator.written import Written

#: Whom one evaluation tells apart, at most.
MOST = 1_000


def of_query(answer: Callable[[Query, int, int], Containers]) -> Source:
    """Tag queries: it holds for the containers found; of those not measured it cannot be said.

    ``answer`` is asked with a query, the end of its window and how many containers are wanted.
    """

    def evaluate(question: str, at_ns: int) -> Evaluation:
        try:
            found = answer(parse(question), at_ns, MOST)
        except BadQuery as problem:
            raise CannotEvaluate(f"{problem.detail} (column {problem.column})") from None
        except TooHeavy as problem:
            raise CannotEvaluate(str(problem)) from None
        return Evaluation(
            tuple(
                Finding(
                    item.entity,
                    {
                        "comparisons": plain(item.comparisons),
                        "requests": plain(item.requests),
                        "image": item.image,
                        "host": plain(item.host),
                        "gone": item.gone,
                    },
                )
                for item in found.items
            ),
            frozenset(Group(item.entity.type, item.entity.id) for item in found.not_measured.items),
            blind=found.next is not None or found.not_measured.count > len(found.not_measured.items),
        )

    return evaluate


def of_slo(reading: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]) -> Source:
    """SLOs: a question is a ``Promise`` in JSON. It holds for each operation, or service, whose error budget burns.

    Where a long window burns and its short one has no request, it cannot be said whether that is over.
    """

    def evaluate(question: str, at_ns: int) -> Evaluation:
        with reading() as cursor:
            states = states_of_each(cursor, Promise.model_validate_json(question).slo(), at_ns)
        burning = [state for state in states if state.burning]
        unclear = [state for state in states if not state.burning and _short_is_empty(state)]
        return Evaluation(
            tuple(
                Finding(_whose(state), {"summary": _burn(state), "slo": plain(state)})
                for state in sorted(burning, key=lambda state: -state.bad)[:MOST]
            ),
            frozenset(Group(entity.type, entity.id) for entity in map(_whose, unclear)),
            blind=len(burning) > MOST,
        )

    return evaluate


def _short_is_empty(state: SloState) -> bool:
    return any(rule.short_rate is None and (rule.long_rate or 0) >= rule.factor for rule in state.burns)


def _whose(state: SloState) -> Entity:
    if state.operation is None:
        return Entity("service", state.service, state.service)
    return Entity("operation", f"{quote(state.service)} {state.operation}", f"{state.service} {state.operation}")


def _burn(state: SloState) -> str:
    rule = next(rule for rule in state.burns if rule.burning)
    return (
        f"its error budget burns {rule.long_rate:.1f} times as fast as it may over {rule.long_s // 3600} h and"
        f" {rule.short_rate:.1f} times over {rule.short_s // 60} min"
    )


class IncidentFilter(Written):
    """Which incidents: all, unless said otherwise."""

    service: Annotated[Name | None, Field(description="that hit this service.name")] = None
    cause: Annotated[Name | None, Field(description="whose first culprit is this (`layerline docs causes`)")] = None

    def __str__(self) -> str:
        """``incidents of web by container.cpu_throttled``."""
        of = "" if self.service is None else f" of {self.service}"
        return f"incidents{of}" + ("" if self.cause is None else f" by {self.cause}")


def of_incidents(answer: Callable[[IncidentFilter, int, int], Sequence[dict[str, Any]]]) -> Source:
    """Incidents: a question is an ``IncidentFilter`` in JSON. It holds for each from when it was noticed to its end.

    ``answer`` is asked with a filter, a moment and how many incidents (as ``IncidentItem`` in JSON) are wanted.
    """

    def evaluate(question: str, at_ns: int) -> Evaluation:
        which = IncidentFilter.model_validate_json(question)
        found = answer(which, at_ns, MOST + 1)
        now = rfc3339(at_ns)
        return Evaluation(
            tuple(
                Finding(Entity("incident", item["id"], item["id"]), {"summary": item["summary"], "incident": item})
                for item in found[:MOST]
                if item["noticed"] <= now and (item["end"] is None or item["end"] > now)
            ),
            blind=len(found) > MOST,
        )

    return evaluate
