"""Beside what requests lost: slower calls and limits that were reached decide who is named, and for which layer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layerline_correlator.entity import Entity
from layerline_correlator.verdict.changed import (
    OWNER,
    UNEXPLAINED,
    Compared,
    Loss,
    Lost,
    Who,
    edge_of,
    grown,
    limit_of,
    state_of,
    with_change,
    with_neighbours,
)
from layerline_correlator.verdict.edges import EdgeChange
from layerline_correlator.verdict.model import Change, Culprit, Join, Suspect, Verdict

MS = 1_000_000
REQUESTS = 100
STOCK, PRICES = Who(OWNER, "stock"), Who("service", "prices:8000")
#: What a request loses to somebody varies by so much: a mean of 100 of each time by a seventh of that.
SPREAD_MS = 100


def lost(before_ms: float, now_ms: float, cause: str = UNEXPLAINED, kind: str = "container") -> Lost:
    """What 100 requests of each time lost to somebody, by one cause, spread evenly over the window."""
    now_ns, before_ns = now_ms * MS * REQUESTS, before_ms * MS * REQUESTS
    loss = Loss(cause, kind, "prices:8000" if kind == "service" else "stock-1", now_ns, 0.0, before_ns, before_ns)
    squares = REQUESTS * ((before_ms * MS) ** 2 + (SPREAD_MS * MS) ** 2)
    return Lost(now_ns, before_ns, squares=squares, hardest=(3 * now_ms * MS, 3), losses=(loss,))


def compared(who: Who, one: Lost, *edges: EdgeChange) -> Compared:
    return Compared(REQUESTS, REQUESTS, REQUESTS, REQUESTS, one, {who: one}, edges=edges)


def edge(caller: str, callee: str, side: str | None, *, sure: bool = True) -> EdgeChange:
    """Calls that take 40 ms longer, on this side."""
    kind = "dependency" if ":" in callee else "service"
    return EdgeChange(
        caller, kind, callee, "GET /", 90, 0, 900, 0, 40 * MS, 0, side, sure, "its answers took 40 ms longer"
    )


def verdict(one: Compared) -> Verdict:
    """A verdict over the window."""
    bare = Verdict(
        None, None, "web", "GET /", "", 0, 0, 0, "excess", [], 0, 0, [], [], False, True, Join(None, 0.0, 0)
    )  # fmt: skip
    figures = Change("no_before", "", 1.0, 1.0, None, None)
    return with_change(bare, one, figures, lambda kind, identity: Entity(kind, identity, identity))


def named(one: Compared) -> Culprit:
    """Its first culprit."""
    return verdict(one).culprits[0]


@pytest.mark.parametrize(
    ("grew_ms", "edges", "found"),
    [
        (90, (), [STOCK]),
        (40, (), []),
        (40, (edge("web", "stock", "callee"),), [STOCK]),
        (40, (edge("stock", "prices:8000", "caller"),), [STOCK]),
        (40, (edge("web", "stock", "way"),), [STOCK]),
        (40, (edge("web", "stock", "callee", sure=False),), []),
        (40, (edge("web", "stock", None),), []),
        (40, (edge("web", "cart", "callee"),), []),
        (10, (edge("web", "stock", "callee"),), []),
    ],
)
def test_less_of_a_change_is_enough_where_calls_got_slower_by_themselves(
    grew_ms: float, edges: tuple[EdgeChange, ...], found: list[Who]
) -> None:
    """2.8 times what chance does names nobody, but with a sure edge whose time passed there; 0.7 times never does."""
    assert grown(compared(STOCK, lost(100, 100 + grew_ms), *edges)) == found


def test_a_limit_that_was_reached_is_enough_too() -> None:
    """Half of a small change was lost to the container's CPU limit: it is named, for the layer container."""
    whole = lost(100, 140)
    throttled = Loss("container.cpu_throttled", "container", "stock-1", 20 * MS * REQUESTS, 0.0, 0.0, 0.0)
    rest = replace(whole.losses[0], now_ns=120 * MS * REQUESTS)
    one = compared(STOCK, replace(whole, losses=(rest, throttled)))
    assert limit_of(one, one.lost[STOCK]) == "container"
    assert (state_of(one), grown(one)) == ("changed", [STOCK])
    assert named(one).layer == "container"
    always = replace(throttled, before_ns=20.0 * MS * REQUESTS)
    standing = compared(STOCK, replace(whole, losses=(replace(rest, before_ns=80.0 * MS * REQUESTS), always)))
    assert limit_of(standing, standing.lost[STOCK]) is None
    assert (state_of(standing), grown(standing)) == ("nothing", [])


@pytest.mark.parametrize(
    ("who", "one", "edges", "layer"),
    [
        (STOCK, lost(100, 200), (), "app"),
        (STOCK, lost(100, 200), (edge("web", "stock", "callee"),), "app"),
        (STOCK, lost(100, 200), (edge("web", "stock", "way"),), "network"),
        (STOCK, lost(100, 200, "network.transit_slow"), (), "network"),
        (STOCK, lost(100, 200, "container.cpu_throttled"), (), "container"),
        (PRICES, lost(100, 200, UNEXPLAINED, "service"), (), "dependency"),
        (PRICES, lost(100, 200, "dependency.slow", "service"), (edge("web", "prices:8000", "callee"),), "dependency"),
    ],
)
def test_the_layer_is_said_also_where_nothing_explains_the_time(
    who: Who, one: Lost, edges: tuple[EdgeChange, ...], layer: str
) -> None:
    """By the main cause; else by where the time of calls passed; else it is the service's own code."""
    culprit = named(compared(who, one, *edges))
    assert culprit.layer == layer
    if edges:
        assert culprit.because is not None
        assert edges[0].because in culprit.because


def test_a_neighbour_that_rose_says_that_it_is_perhaps_the_host() -> None:
    """Time that nothing explains is the host's to mend where a neighbour is suspected; what has a cause stays there."""
    neighbour = Suspect(Entity("container", "n", "batch"), "host.cpu_contended", None, [], "it used 0.9 CPU meanwhile")
    own = Suspect(Entity("container", "stock-1", "stock-1"), "container.cpu_throttled", 5, [], "")
    for cause, suspects, layer in (
        (UNEXPLAINED, [neighbour, own], "host"),
        (UNEXPLAINED, [own], "app"),
        ("app.cpu_busy", [neighbour], "app"),
    ):
        found = with_neighbours(replace(verdict(compared(STOCK, lost(100, 200, cause))), suspects=suspects))
        assert found.culprits[0].layer == layer
        assert ("batch: it used 0.9 CPU" in (found.culprits[0].because or "")) == (layer == "host")


@pytest.mark.parametrize(
    ("before_ms", "now_ms", "found"),
    [(12, 16, []), (12, 23, [STOCK]), (2, 3.5, [STOCK]), (100, 109, []), (1000, 1040, [])],
)
def test_a_few_milliseconds_are_the_machines(before_ms: float, now_ms: float, found: list[Who]) -> None:
    """However sure it is, less than 10 ms and half of a request, or 5 % of a long one, is no change."""
    steady = replace(lost(before_ms, now_ms), squares=REQUESTS * (before_ms * MS) ** 2 * 1.0001)
    assert grown(compared(STOCK, steady)) == found


def test_an_edge_speaks_for_whom_its_time_passed_at() -> None:
    """The callee, also one that is known by its address only; the caller; nobody where the side is open."""
    one = compared(STOCK, lost(1, 2), edge("web", "stock", None), edge("web", "prices:8000", "callee"))
    assert (edge_of(one, STOCK), edge_of(one, PRICES)) == (None, one.edges[1])
    assert edge_of(replace(one, edges=(edge("web", "stock", "caller"),)), Who(OWNER, "web")) is not None


def test_two_steps_between_stretches_already_say_how_much_chance_does() -> None:
    """What differs as much between stretches of a short time before as it does now has not grown."""
    noisy = replace(lost(100, 200), blocks=3, variance=float((500 * MS) ** 2))
    assert grown(compared(STOCK, noisy)) == []
    assert grown(compared(STOCK, replace(noisy, blocks=2))) == [STOCK]
