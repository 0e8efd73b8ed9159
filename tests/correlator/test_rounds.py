"""How causes take in rounds, and what is left out where it has nothing to say."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
from spans import a_while_ago, batch, span_row
from test_graph import STEPS
from test_same_ledgers import TRACES, readings

from layerline_correlator.ledger.causes import all_causes
from layerline_correlator.ledger.rounds import _taking
from layerline_correlator.ledger.work import work_out
from layerline_correlator.settings import Settings
from layerline_correlator.store.graph import Rows, Step, with_branches
from layerline_correlator.store.statements import execute, parsed, text
from layerline_correlator.store.store import Store

#: They would have rows, but only steps and causes that are left out for the same reason read them.
NEEDED_BY_NOBODY = {"called_at", "phase"}
POOLS = ("cpu", "wait", "off", "queued")
BRANCH = re.compile(r"^UNION ALL(?: BY NAME)?\n-- only with: (.*)\n((?:(?!^UNION ALL)[^\n]*\n?)*)", re.MULTILINE)


def drawn_claims(draw: random.Random, pieces: int) -> list[tuple[Any, ...]]:
    """Claims of every kind, at most one for each pool of a piece."""
    claims = []
    for piece in range(pieces):
        for pool in POOLS:
            if draw.random() < 0.4:
                continue
            lost = draw.choice([None, 0, draw.randint(1, 200)])
            low = draw.choice([None, draw.randint(0, 100)])
            high = draw.choice([None, draw.randint(0, 300)])
            entity = draw.choice([None, "web-1", "web-1"])
            inferred = draw.choice([None, True, False])
            claims.append(("app.slept", 0, piece, pool, "container", entity, lost, low, high, inferred, "{lost}"))
    return claims


def test_claims_that_do_not_meet_are_taken_as_if_they_might() -> None:
    """Where no two claims are for one pool of a piece, taking gives the same with the windows and without them."""
    draw = random.Random(7)  # noqa: S311 - claims, not a secret
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE piece (piece_no BIGINT, length_ns BIGINT, inferred BOOLEAN)")
        sides = ", ".join(f"{pool}_left{side} BIGINT" for pool in POOLS for side in ("", "_low", "_high"))
        connection.execute(f"CREATE TABLE left_0 (piece_no BIGINT, {sides})")
        for piece in range(60):
            connection.execute("INSERT INTO piece VALUES (?, ?, ?)", [piece, 400, draw.choice([True, False])])
            bounds = [sorted(draw.randint(0, 100) for _ in range(3)) for _ in POOLS]
            connection.execute(
                f"INSERT INTO left_0 VALUES ({', '.join('?' * 13)})",
                [piece, *(figure for low, left, high in bounds for figure in (left, low, high))],
            )
        connection.execute(f"CREATE TABLE claim_0 AS {text('ledger/claims.sql')}")
        connection.executemany(
            "INSERT INTO claim_0 (cause, turn, piece_no, pool, entity_type, entity_id, lost_ns, low_ns, high_ns,"
            " inferred, because) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            drawn_claims(draw, 60),
        )
        (taken, with_windows), (_, _) = _taking(0, True)
        (_, without), (_, _) = _taking(0, False)
        assert "OVER" in with_windows
        assert "OVER" not in without
        expected = connection.execute(f"FROM ({with_windows}) ORDER BY ALL").fetchall()
        assert taken == "taken_0"
        assert len(expected) > 20
        assert connection.execute(f"FROM ({without}) ORDER BY ALL").fetchall() == expected


def test_a_branch_that_needs_an_empty_table_is_left_out() -> None:
    """A branch is kept unless a table that its head names has no rows; one without a head always is."""
    sql = "SELECT 1 AS a\nUNION ALL BY NAME\n-- only with: one, two\nSELECT a FROM one, two\nUNION ALL\nSELECT 3"
    assert with_branches(sql, {"one": 1, "two": 0}) == "SELECT 1 AS a\nUNION ALL\nSELECT 3"
    kept = "SELECT 1 AS a\nUNION ALL BY NAME\nSELECT a FROM one, two\nUNION ALL\nSELECT 3"
    assert with_branches(sql, {"one": 1}) == kept


BRANCHES = [
    pytest.param(branch, id=f"{name}: {branch[0]}")
    for name, sql in {
        **{step.makes: step.sql for step in STEPS.values()},
        **{cause.name: cause.sql for cause in all_causes()},
    }.items()
    for branch in BRANCH.findall(sql)
]


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_branch_reads_what_its_head_names(branch: tuple[str, str]) -> None:
    """A branch joins the tables that its head names, so that without rows in them it has none."""
    named, body = branch
    for table in named.replace(",", " ").split():
        assert re.search(rf"\bJOIN {table}\b(?<!LEFT JOIN {table})|\bFROM {table}\b|IN \(FROM {table}\b", body)


def test_a_step_that_has_nothing_to_say_would_make_no_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the heads of steps leave out of a pass is empty when it is made all the same."""
    left_out: set[str] = set()
    asked: set[str] = set()
    in_vain: set[str] = set()

    def make_all(self: Step, cursor: duckdb.DuckDBPyConnection, parameters: Mapping[str, Any], rows: Rows) -> None:
        rows[self.makes] = execute(cursor, parsed(with_branches(self.sql, rows)), parameters)[-1][0][0]
        idle = self.is_idle(cursor, rows)
        (left_out if idle else asked).add(self.makes)
        if idle and rows[self.makes]:
            in_vain.add(self.makes)

    monkeypatch.setattr(Step, "run", make_all)
    zero_ns = a_while_ago()
    store = Store(Settings(store=tmp_path))
    spans = [span_row(span, trace_id, zero_ns) for trace_id, drawn in TRACES.items() for span in drawn]
    store.append(batch(spans, readings(zero_ns)))
    with store.cursor() as cursor:
        for trace_id in TRACES:
            work_out(cursor, [trace_id], zero_ns, zero_ns + 10 * 10**9)
    store.close()
    assert in_vain <= NEEDED_BY_NOBODY
    assert {"dark_piece", "callee", "sample", "waiting_visit", "level"} <= left_out
    assert {"dark_piece", "callee", "disk_user", "waiting_visit"} <= asked
