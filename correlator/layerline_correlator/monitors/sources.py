"""Where findings come from. A source is a function of a question's text and a moment (``model.Source``)."""

from __future__ import annotations

from collections.abc import Callable

from layerline_correlator.monitors.model import CannotEvaluate, Evaluation, Finding, Group, Source
from layerline_correlator.query import TooHeavy, plain
from layerline_correlator.tagquery.answer import Containers
from layerline_correlator.tagquery.model import BadQuery, Query
from layerline_correlator.tagquery.parse import parse

#: Containers that one evaluation tells apart, at most.
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
