"""Answers a query from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import duckdb

from layerline_correlator.entity import Entity
from layerline_correlator.store.graph import graph
from layerline_correlator.store.sealed import POINT, SPAN, narrow
from layerline_correlator.store.stale import MINUTE_NS
from layerline_correlator.store.statements import first_row
from layerline_correlator.summaries.cover import DAY_PART_NS, LONG_NS, POINTS, SPANS, cover, turns
from layerline_correlator.tagquery.answer import (
    Compared,
    ContainerItem,
    Containers,
    NotMeasured,
    NotMeasuredItem,
    Served,
)
from layerline_correlator.tagquery.condition import Bound, attribute, condition, keys_of
from layerline_correlator.tagquery.model import Aggregate, Comparison, Query
from layerline_correlator.tagquery.parse import AGGREGATES
from layerline_correlator.tagquery.signals import Measure
from layerline_correlator.times import rfc3339

#: The window where the query does not say one.
DEFAULT_OVER_NS = 15 * 60 * 10**9

#: What was read or sent so long before the window says that a container lived when it began, and what it did since
#: (``longest_interval_ns`` of facts/readings.sql).
_BEFORE_NS = 120 * 10**9

#: The files of a query that reads every value, and of one that reads minutes; and what they are given.
_FIGURES = ("tagquery/lived.sql", "tagquery/measured.sql")
BY_ROW = ((*_FIGURES, "tagquery/measured_rows.sql"), (*POINTS, *SPANS))
BY_MINUTE = ((*_FIGURES, "summaries/stretches.sql", "tagquery/measured_minutes.sql"), (*POINTS, *SPANS))

#: A kind of entity and an id, and the entity with its name.
Naming = Callable[[str, str], Entity]


class _Row(NamedTuple):
    """A container that the tags select."""

    container_id: str
    host: str | None
    services: list[str]
    lived_from_ns: int
    lived_to_ns: int
    gone: bool | None
    image: str | None
    served: tuple[Any, ...]  # requests, errors, slow, p50_ns, p95_ns; all None where no spans come from it
    holds: bool | None
    compared: list[Compared]


#: Where in a row its requests begin, and where it says whether the query holds.
_SERVED, _HOLDS = 7, 12


def window_ns(query: Query, to_ns: int) -> tuple[int, int]:
    """The window that ends at ``to_ns``, half-open."""
    return max(0, to_ns - (query.over_ns or DEFAULT_OVER_NS)), to_ns


def evaluate(
    cursor: duckdb.DuckDBPyConnection, query: Query, to_ns: int, named: Naming, first: int = 0, limit: int = 50
) -> Containers:
    """The containers for which the query holds in the window that ends at ``to_ns``, the worst first.

    Of them ``limit`` from number ``first`` on; ``next`` is the number that follows, as text. Works in temporary tables
    of ``cursor``, which must have no other use meanwhile.
    """
    from_ns, to_ns = window_ns(query, to_ns)
    measures = {measure for comparison in query.comparisons for measure in _measures(comparison)}
    values = {
        "from_ns": from_ns,
        "to_ns": to_ns,
        "keys": sorted(set(_keys(query))),
        "counters": [measure.signal for measure in measures if measure.source == "counter"],
        "gauges": [measure.signal for measure in measures if measure.source == "gauge"],
    }
    since_ns, by_minute = max(0, from_ns - _BEFORE_NS), to_ns - from_ns > LONG_NS
    apart = {from_ns // MINUTE_NS, *turns(cursor, since_ns, to_ns)} if by_minute else ()
    narrow(cursor, since_ns, to_ns, POINT, SPAN)
    for kind in ("point", "span"):
        cover(cursor, kind, since_ns, to_ns, summed=by_minute, apart=apart, quarters=to_ns - from_ns > DAY_PART_NS)
    graph(*(BY_MINUTE if by_minute else BY_ROW)).run(cursor, values)
    selected = _rows(cursor, query)
    held = sorted((row for row in selected if row.holds), key=_worst_first)
    unknown = [row for row in selected if row.holds is None]
    return Containers(
        items=[_item(row, named) for row in held[first : first + limit]],
        next=str(first + limit) if len(held) > first + limit else None,
        reason=None if held else _why_none(cursor, query, len(selected), len(unknown)),
        not_measured=NotMeasured(len(unknown), [_not_measured(cursor, row, query, named) for row in unknown[:limit]]),
        from_=rfc3339(from_ns),
        to=rfc3339(to_ns),
    )


def _aggregates(comparison: Comparison) -> list[Aggregate]:
    return [part.aggregate for part in comparison.bound if part.aggregate is not None]


def _measures(comparison: Comparison) -> Iterator[Measure]:
    yield comparison.measure
    yield from (aggregate.measure for aggregate in _aggregates(comparison))


def _keys(query: Query) -> Iterator[str]:
    """The attributes that the query asks tags by."""
    yield from keys_of(query.selection)
    for comparison in query.comparisons:
        for aggregate in _aggregates(comparison):
            if aggregate.where is not None:
                yield from keys_of(aggregate.where)
            if aggregate.by is not None:
                yield attribute(aggregate.by)


def _tag(key: str) -> str:
    return f"tags[{key}]"


def _rows(cursor: duckdb.DuckDBPyConnection, query: Query) -> list[_Row]:
    """Who is selected, with the value, the bound and the group's value of each comparison.

    The statement is put together from the query's structure; its words and numbers are bound.
    """
    bound = Bound()
    figures: dict[Measure, str] = {}
    for comparison in query.comparisons:
        for measure in _measures(comparison):
            figures.setdefault(measure, f"figure_{len(figures)}")
    valued = [
        f"max(value) FILTER (measured.signal = {bound.add(measure.signal)}) AS {column}"
        for measure, column in figures.items()
    ]
    groups: list[str] = []
    judged: list[str] = []
    holds: list[str] = []
    for number, comparison in enumerate(query.comparisons):
        summands = []
        group = "NULL"
        for part in comparison.bound:
            factor = bound.add(part.factor)
            if part.aggregate is None:
                summands.append(factor)
                continue
            column = f"group_{len(groups)}"
            groups.append(f"{_group(part.aggregate, figures, bound)} AS {column}")
            summands.append(f"{factor} * {column}")
            group = column if group == "NULL" else group
        value = figures[comparison.measure]
        judged.append(
            f"{value} AS value_{number}, {' + '.join(summands)} AS bound_{number}, {group} AS of_group_{number}"
        )
        holds.append(f"value_{number} {comparison.operator} bound_{number}")
    numbers = range(len(query.comparisons))
    selected = f"{condition(query.selection, _tag, bound)} AS selected"
    statement = f"""
    WITH
    valued AS (SELECT {", ".join(["lived.container_id", "any_value(tags) AS tags", *valued])}
               FROM lived LEFT JOIN measured USING (container_id) GROUP BY lived.container_id),
    grouped AS (SELECT {", ".join(["*", selected, *groups])} FROM valued),
    judged AS (SELECT {", ".join(["container_id", *judged])} FROM grouped WHERE selected)
    SELECT container_id, lived.host, services, lived_from_ns, lived_to_ns, gone, container.image,
           requests, errors, slow, p50_ns, p95_ns, {" AND ".join(holds) or "true"} AS holds
           {"".join(f", value_{number}, bound_{number}, of_group_{number}" for number in numbers)}
    FROM judged JOIN lived USING (container_id)
    LEFT JOIN container USING (container_id) LEFT JOIN served USING (container_id)
    """
    return [_row(query, row) for row in cursor.execute(statement, bound.values).fetchall()]


def _row(query: Query, row: Sequence[Any]) -> _Row:
    """A row of that statement: ``_SERVED`` columns, how its requests went, whether it holds, three per comparison."""
    figures = iter(row[_HOLDS + 1 :])
    compared = [_compared(comparison, *islice(figures, 3)) for comparison in query.comparisons]
    return _Row._make((*row[:_SERVED], tuple(row[_SERVED:_HOLDS]), row[_HOLDS], compared))


def _group(aggregate: Aggregate, figures: dict[Measure, str], bound: Bound) -> str:
    """The aggregate as a window over all containers that lived. Each counts once, whoever is compared among them."""
    function = AGGREGATES[aggregate.function].format(figures[aggregate.measure])
    if aggregate.where is not None:
        function += f" FILTER ({condition(aggregate.where, _tag, bound)})"
    if aggregate.by is None:
        return f"{function} OVER ()"
    key = bound.add(attribute(aggregate.by))
    return f"CASE WHEN len(tags[{key}]) > 0 THEN {function} OVER (PARTITION BY tags[{key}]) END"


def _compared(comparison: Comparison, value: float | None, limit: float | None, group: float | None) -> Compared:
    return Compared(
        signal=comparison.measure.name,
        unit=comparison.measure.unit,
        operator=comparison.operator,
        value=value,
        bound=limit,
        group_value=group,
        ratio=value / group if value is not None and group else None,
    )


def _worst_first(row: _Row) -> tuple[float, str]:
    """By how far the first comparison is exceeded; without one, by name."""
    if not row.compared:
        return 0.0, row.container_id
    first = row.compared[0]
    rank = first.ratio if first.ratio is not None else first.value or 0.0
    return rank if first.operator.startswith("<") else -rank, row.container_id


def _item(row: _Row, named: Naming) -> ContainerItem:
    requests, errors, slow, p50_ns, p95_ns = row.served
    first = row.compared[0] if row.compared else None
    return ContainerItem(
        entity=named("container", row.container_id),
        host=None if row.host is None else named("host", row.host),
        image=row.image,
        services=row.services,
        from_=rfc3339(row.lived_from_ns),
        to=rfc3339(row.lived_to_ns),
        gone=row.gone,
        value=first.value if first else None,
        group_value=first.group_value if first else None,
        ratio=first.ratio if first else None,
        comparisons=row.compared,
        requests=None
        if requests is None
        else Served(
            count=requests,
            errors=errors,
            slow=slow,
            slow_ratio=slow / requests if requests else None,
            p50_ns=None if p50_ns is None else round(p50_ns),
            p95_ns=None if p95_ns is None else round(p95_ns),
        ),
    )


def _not_measured(cursor: duckdb.DuckDBPyConnection, row: _Row, query: Query, named: Naming) -> NotMeasuredItem:
    """The first comparison of which it is not known whether it holds, and why."""
    asked, compared = next(
        pair
        for pair in zip(query.comparisons, row.compared, strict=True)
        if pair[1].value is None or pair[1].bound is None
    )
    if compared.value is None:
        reason = f"not measured: {_why_no_value(cursor, row, asked.measure)}"
    else:
        reason = _why_no_group(cursor, row, _aggregates(asked))
    return NotMeasuredItem(named("container", row.container_id), row.gone, compared.signal, reason)


def _why_no_value(cursor: duckdb.DuckDBPyConnection, row: _Row, measure: Measure) -> str:
    if measure.source == "requests":
        return "no spans come from it" if row.served[0] is None else "it served no request in this window"
    read = first_row(
        cursor.execute(
            "SELECT count(*) FROM was_read WHERE container_id = $container_id AND signal = $signal",
            {"container_id": row.container_id, "signal": measure.signal},
        )
    )
    if read and read[0]:
        return f"{measure.signal} was read for too little of its life in this window to tell its rate"
    return f"there is no reading of {measure.signal} in this window"


def _why_no_group(cursor: duckdb.DuckDBPyConnection, row: _Row, aggregates: Sequence[Aggregate]) -> str:
    for aggregate in aggregates:
        if aggregate.by is not None and not _carried(cursor, attribute(aggregate.by), row.container_id):
            return f"it has no tag {aggregate.by} to find its group by"
    return "nothing to compare with: no container of the group was measured"


def _why_none(cursor: duckdb.DuckDBPyConnection, query: Query, selected: int, unknown: int) -> str:
    found = first_row(cursor.execute("SELECT count(*) FROM lived"))
    seen = found[0] if found else 0
    if not seen:
        return "no container was seen in this window"
    if not selected:
        absent = [key for key in dict.fromkeys(keys_of(query.selection)) if not _carried(cursor, key)]
        hint = f"; none has a tag {' or '.join(absent)} at all" if absent else ""
        return f"none of the {seen} containers seen in this window has these tags{hint}"
    measured = f"; {unknown} of them were not measured" if unknown else ""
    return f"it holds for none of the {selected} containers with these tags{measured}"


def _carried(cursor: duckdb.DuckDBPyConnection, key: str, container_id: str | None = None) -> bool:
    """Somebody (or this container) that lived in the window carries the tag."""
    found = first_row(
        cursor.execute(
            "SELECT count(*) FROM lived"
            " WHERE len(tags[$key]) > 0 AND container_id = coalesce($container_id, container_id)",
            {"key": key, "container_id": container_id},
        )
    )
    return bool(found and found[0])
