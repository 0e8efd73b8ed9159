"""The causes take in turn, in rounds.

A cause claims time of pieces; a claim takes at most what causes before it left. ``ROUNDS`` says from which ``order`` on
causes take together: all of a round see what was left when it began (``left_over``), and where their claims exceed it,
those of a lower order come first. Each round makes tables of its own: ``claim_N`` (what was claimed), ``taken_N`` (what
of it there was), ``left_N`` (what is left after it). The view ``left_over`` stands for the newest of these. Nothing is
changed after it was made.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import duckdb

from layerline_correlator.ledger.causes import Cause
from layerline_correlator.store.graph import Graph, Rows, Step, conditions_by_table, steps_of, with_branches
from layerline_correlator.store.statements import execute, parsed, text

LEFT_OVER = "left_over"
#: Whose rows must fulfil the conditions of causes (``where``).
_PIECE = "piece"
#: The orders at which rounds begin: what happened to whole containers; a process that had just started; CPUs that were
#: withheld; who ran instead; devices and memory; what the code itself did, and whom it called.
ROUNDS = (0, 40, 200, 400, 500, 700)

#: Whether two claims for one pool of a piece are among those of a table.
_MEETING = "SELECT bool_or(claims > 1) FROM (SELECT count(*) AS claims FROM {} GROUP BY piece_no, pool)"
#: What take.sql asks of the claims before each: sums over them, and the place of each among them.
_BEFORE = re.compile(r"coalesce\(sum\((?:[^()]|\([^()]*\))*\) OVER before, 0\)")
_PLACE = re.compile(r"row_number\(\) OVER \([^()]*\) AS place\b")
_WINDOW = re.compile(r"\n *WINDOW before AS \([^()]*\)")


@dataclass(frozen=True, slots=True)
class Round:
    """Steps that must see what is left now, then causes that take together."""

    steps: tuple[Step, ...]
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The ledger's graph: steps that come before any cause, then rounds; and what is asked of each table first."""

    before: Graph
    rounds: tuple[Round, ...]
    asked: Mapping[str, tuple[str, ...]]


def plan(graph: Graph, causes: Sequence[Cause]) -> Plan:
    """When each step is made and each cause asked. ValueError where a cause reads what no step makes."""
    late = _reading_left_over(graph)
    made = {step.makes for step in graph.steps if step.makes not in late} | graph.given
    before = Graph(tuple(step for step in graph.steps if step.makes not in late), graph.given)
    rounds = []
    for first, after in zip(ROUNDS, (*ROUNDS[1:], sys.maxsize), strict=True):
        together = tuple(cause for cause in causes if first <= cause.order < after)
        reads = {name for cause in together for name in (*cause.reads, *cause.only_with, *cause.with_any_of)}
        if missing := reads - made - late - {LEFT_OVER}:
            raise ValueError(f"causes of the orders {first} to {after} read {missing}, which no step makes")
        steps = tuple(
            step for step in graph.for_the_sake_of(reads).steps if step.makes in late and step.makes not in made
        )
        made |= {step.makes for step in steps}
        rounds.append(Round(steps, together))
    conditions = [condition for step in graph.steps for condition in step.only_where]
    conditions += [(_PIECE, cause.where) for cause in causes if cause.where is not None]
    return Plan(before, tuple(rounds), conditions_by_table(conditions))


def _reading_left_over(graph: Graph) -> set[str]:
    """Steps that read what is left, directly or through others."""
    late: set[str] = set()
    for step in graph.steps:  # in an order in which each comes after what it reads
        if LEFT_OVER in step.reads or late.intersection(step.needs):
            late.add(step.makes)
    return late


@dataclass(slots=True)
class Taking:
    """One batch's rounds on one cursor; ``rows`` knows how many rows each table of the ledger has."""

    cursor: duckdb.DuckDBPyConnection
    parameters: Mapping[str, Any]
    rows: Rows
    number: int = 0
    taken: list[int] = field(default_factory=list)  # rounds that took something

    def run(self, rounds: tuple[Round, ...]) -> None:
        """Let every cause take that can apply to the batch, and gather ``evidence``."""
        last = rounds[-1]
        self._point_at(0)
        for each in rounds:
            for step in each.steps:
                step.run(self.cursor, self.parameters, self.rows)
            causes = [cause for cause in each.causes if not self._idle(cause)]
            if causes:
                self._take(tuple(causes), more=each is not last)
        parts = [text("ledger/claims.sql"), *(f"FROM taken_{number}" for number in self.taken)]
        union = "\nUNION ALL BY NAME\n".join(parts)
        self._make("evidence", f"SELECT * EXCLUDE (turn) FROM ({union})")

    def _idle(self, cause: Cause) -> bool:
        """A table of which the cause needs rows has none, or the batch has no piece that it may apply to."""
        none = {name for name in (*cause.only_with, *cause.with_any_of) if self.rows.get(name) == 0}
        if none.intersection(cause.only_with) or (none and none.issuperset(cause.with_any_of)):
            return True
        return cause.where is not None and not self.rows.holds(self.cursor, _PIECE, cause.where)

    def _take(self, causes: tuple[Cause, ...], more: bool) -> None:
        if not self._make(f"claim_{self.number}", self._claims(causes)):
            return
        meets = execute(self.cursor, parsed(_MEETING.format(f"claim_{self.number}")))[0]
        (taken, sql), (left, rest) = _taking(self.number, bool(meets[0][0]))
        self._make(taken, sql)
        self.taken.append(self.number)
        self.number += 1
        if more:
            self._make(left, rest)
            self._point_at(self.number)

    def _claims(self, causes: tuple[Cause, ...]) -> str:
        """What these causes claim, as one SELECT."""
        claims = [text("ledger/claims.sql")]
        for turn, cause in enumerate(causes):
            body = with_branches(cause.sql, self.rows)
            claims.append(f"SELECT '{cause.name}' AS cause, {turn} AS turn, * FROM ({body}\n)")
        return "\nUNION ALL BY NAME\n".join(claims)

    def _point_at(self, number: int) -> None:
        execute(self.cursor, parsed(f"CREATE OR REPLACE TEMP VIEW {LEFT_OVER} AS FROM left_{number}"))

    def _make(self, table: str, select: str) -> int:
        made = execute(self.cursor, parsed(f"CREATE OR REPLACE TEMP TABLE {table} AS {select}"))
        count: int = made[0][0][0]
        return count


@cache
def _taking(number: int, meets: bool) -> tuple[tuple[str, str], ...]:
    """``take.sql`` for the round of that number: the tables that it makes, and the SELECT of each.

    Where no two claims meet in one pool, none comes before another, and the windows that look for those before are
    left out: they cost as much as all the rest.
    """
    sql = text("ledger/take.sql").replace("_now", f"_{number}").replace("_next", f"_{number + 1}")
    if not meets:
        sql = _WINDOW.sub("", _PLACE.sub("1 AS place", _BEFORE.sub("0", sql)))
    return tuple((step.makes, step.sql.partition(" AS\n")[2]) for step in steps_of(sql, "ledger/take.sql"))
