"""Which changes near the start of an incident have to do with it."""

from __future__ import annotations

import pytest

from layerline_correlator.entity import Entity
from layerline_correlator.incidents.changes import RECOGNISED, Happened, Path, fit, judge_changes
from layerline_correlator.incidents.group import Blamed
from layerline_correlator.ledger.causes import CHANGES, all_causes, parse

S = 10**9
START_NS = 1_000 * S


def test_a_neighbour_fits_if_it_ran_much_of_what_was_waited_behind() -> None:
    """Neither the waiting container's own start nor that of somebody who hardly ran is an explanation."""
    culprit = Blamed("host.cpu_contended", "stock", "host", "vm", 0.9)
    path = Path(
        services={"web": frozenset({"web-1"}), "stock": frozenset({"stock-1"})},
        neighbours={"loud": 0.93, "stock-1": 0.59, "web-1": 0.02},
        addresses={},
    )
    happened = [
        Happened(START_NS - 60 * S, "container.start", container, None, f"container {container}: start")
        for container in ("stock-1", "web-1", "loud")
    ]
    changes = judge_changes(happened, path, culprit, START_NS, lambda kind, name: Entity(kind, name, name))
    assert [change.entity.id for change in changes if change.likely and change.entity] == ["loud"]
    assert {change.entity.id for change in changes if change.entity} == {"loud", "stock-1", "web-1"}


NOBODY = Path(services={"stock": frozenset({"stock-1"})}, neighbours={"loud": 0.4}, addresses={"db-1": "db:5432"})


def blamed(cause: str) -> Blamed:
    """Who is to blame where this is the cause."""
    by_layer = {"dependency": ("service", "db:5432"), "network": ("service", "db:5432"), "host": ("host", "vm")}
    return Blamed(cause, "stock", *by_layer.get(cause.partition(".")[0], ("container", "stock-1")), 0.9)


@pytest.mark.parametrize(
    ("cause", "kind", "container", "why"),
    [
        ("container.cpu_throttled", "limit", "stock-1", "its limit"),
        ("container.cpu_throttled", "limit", "loud", ""),
        ("container.cpu_throttled", "version", "stock-1", "another limit"),
        ("container.paused", "container.pause", "stock-1", "it is what"),
        ("container.paused", "container.pause", "loud", ""),
        ("host.io_saturated", "container.start", "loud", "it used 40 % of what"),
        ("host.cpu_contended", "container.start", "stock-1", ""),
        ("dependency.slow", "container.restart", "db-1", "called"),
        ("dependency.slow", "container.restart", "loud", ""),
        ("app.cpu_busy", "deploy", None, "own code"),
        ("app.cpu_busy", "container.start", "stock-1", "it runs the code"),
        ("app.cpu_busy", "limit", "stock-1", ""),
        ("network.retransmitted", "version", "stock-1", ""),
    ],
)
def test_a_cause_says_which_changes_fit_it(cause: str, kind: str, container: str | None, why: str) -> None:
    """What can bring a cause about stands in its own file, with the reason that people read."""
    service = "stock" if container == "stock-1" else None
    weight, said = fit(Happened(START_NS, kind, container, None, ""), service, NOBODY, blamed(cause))
    assert (weight > 0) is (why != "")
    assert why in said


def test_what_fits_best_stands_first_in_the_file() -> None:
    """Of two changes that fit, the one that the cause names first is the likelier."""
    limit, update, code = (
        fit(Happened(START_NS, kind, "stock-1", None, ""), "stock", NOBODY, blamed("container.cpu_throttled"))[0]
        for kind in ("limit", "container.update", "version")
    )
    assert limit > update > code > 0


def test_every_change_that_a_cause_may_name_is_recognised() -> None:
    """A word in a header that nothing recognises would never fit; what may take over is a cause that exists."""
    assert set(RECOGNISED) == set(CHANGES)
    names = {cause.name for cause in all_causes()}
    assert all(set(cause.takes_over) <= names - {cause.name} for cause in all_causes())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fits: full moon: it howls", "full moon"),
        ("fits: new code", "new code"),
        ("at fault: somebody", "somebody"),
        ("suspected in: the dark", "the dark"),
    ],
)
def test_a_header_that_nobody_understands_is_refused(line: str, message: str) -> None:
    """A mistake in a cause's file is an error that names the cause and what was found, not a change that never fits."""
    (cause,) = (cause for cause in all_causes() if cause.name == "app.cpu_busy")
    with pytest.raises(ValueError, match=f"cause app.cpu_busy: expected .*{message}"):
        parse("app.cpu_busy", f"-- {line}\n{cause.sql}" if "fits" in line else f"{_before(cause.sql, line)}")


def _before(sql: str, line: str) -> str:
    """The header with this line last, so that it counts."""
    key = line.partition(":")[0]
    kept = [each for each in sql.splitlines() if not each.startswith(f"-- {key}:")]
    return "\n".join([f"-- {line}", *kept])
