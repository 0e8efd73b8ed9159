"""Which troubles are one incident."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layerline_correlator.incidents.group import Blamed, Trouble, together

S = 10**9
MINUTE = 60
QUOTA = Blamed("container.cpu_throttled", "stock", "container", "c1", 0.9)
OTHER_CONTAINER = Blamed("container.cpu_throttled", "stock", "container", "c2", 0.9)
PRICES = Blamed("dependency.slow", "stock", "service", "prices:8000", 0.8)
PARTNER = Blamed("dependency.slow", "stock", "service", "partner:8000", 0.8)
CODE = Blamed("app.cpu_busy", "web", "container", "w1", 0.7)


def trouble(
    key: str,
    start_s: int,
    end_s: int | None,
    *culprits: Blamed,
    traces: str = "",
    incident: str | None = None,
    split_from: str | None = None,
) -> Trouble:
    end_ns = None if end_s is None else end_s * S
    return Trouble(key, start_s * S, end_ns, culprits, frozenset(traces), incident, split_from)


def keys(*troubles: Trouble) -> list[list[str]]:
    return [[one.key for one in group] for group in together(troubles)]


def test_callee_and_caller_with_one_culprit_are_one_incident() -> None:
    """The same first culprit at the same time: one incident, whoever was noticed first."""
    assert keys(trouble("web", 11, None, QUOTA), trouble("stock", 10, None, QUOTA)) == [["stock", "web"]]


def test_replicas_of_a_service_are_one_culprit() -> None:
    """Two containers of one service held back at once are one incident; two dependencies of it are two."""
    assert keys(trouble("a", 10, 90, QUOTA), trouble("b", 20, 80, OTHER_CONTAINER)) == [["a", "b"]]
    assert keys(trouble("a", 10, 90, PRICES), trouble("b", 20, 80, PARTNER)) == [["a"], ["b"]]


def test_two_faults_at_once_are_two_incidents() -> None:
    """Different first culprits in different requests are different incidents."""
    assert keys(trouble("a", 10, 90, QUOTA, traces="xyz"), trouble("b", 20, 80, CODE, traces="pqr")) == [["a"], ["b"]]


def test_the_same_fault_an_hour_later_is_another_incident() -> None:
    """What was over for more than two minutes and comes back is new; sooner, it is the same."""
    assert keys(trouble("a", 10, 90, QUOTA), trouble("b", 3600, None, QUOTA)) == [["a"], ["b"]]
    assert keys(trouble("a", 10, 90, QUOTA), trouble("b", 200, None, QUOTA)) == [["a", "b"]]


def test_without_a_culprit_shared_traces_tell() -> None:
    """A caller that fails in the traces in which its callee fails belongs to it."""
    assert keys(trouble("a", 10, 90, traces="xyz"), trouble("b", 12, 90, traces="xy")) == [["a", "b"]]
    assert keys(trouble("a", 10, 90, traces="xyz"), trouble("b", 12, 90, traces="pq")) == [["a"], ["b"]]


def test_what_returns_without_a_culprit_is_the_same_within_a_minute() -> None:
    """An operation that is slow again soon, and nothing says why, is in the same trouble; after that, or where one of
    both has a culprit, or in another operation, it is another."""
    cart, page = ("web", "GET /cart"), ("web", "GET /page")
    first = replace(trouble("a", 10, 90), operation=cart)
    again = replace(trouble("b", 140, 200), operation=cart)
    assert keys(first, again) == [["a", "b"]]
    assert keys(first, replace(again, start_ns=160 * S)) == [["a"], ["b"]]
    assert keys(first, replace(again, operation=page)) == [["a"], ["b"]]
    assert keys(replace(first, culprits=(PARTNER,)), again) == [["a"], ["b"]]


def test_what_was_together_stays_together() -> None:
    """New evidence does not tear a known incident apart."""
    assert keys(
        trouble("a", 10, 90, QUOTA, incident="one"),
        trouble("b", 20, 80, CODE, incident="one"),
        trouble("c", 20, 80, CODE),
    ) == [["a", "b", "c"]]


def test_what_was_split_stays_apart() -> None:
    """Neither a culprit in common nor a third trouble that is related to both joins two incidents that were split."""
    assert keys(
        trouble("a", 10, 90, QUOTA, incident="one"),
        trouble("b", 85, None, QUOTA, incident="two", split_from="one"),
        trouble("c", 80, None, QUOTA),
    ) == [["a", "c"], ["b"]]


def code(operation: str, function: str = "", cause: str = "app.cpu_busy", entity: str = "web") -> Blamed:
    """Web's own code, in processes outside of containers: the same processes serve every operation."""
    return Blamed(cause, "web", "process", entity, 0.8, operation, function)


@pytest.mark.parametrize("cause", ["app.cpu_busy", "app.blocked"])
def test_slow_code_in_three_operations_of_a_process_is_three_incidents(cause: str) -> None:
    """That the process and the cause agree says nothing: other code is slow, since another moment."""
    assert keys(
        trouble("a", 0, 50, code("GET /a", "price a.py", cause)),
        trouble("b", 1 * MINUTE, 110, code("GET /b", "sort b.py", cause)),
        trouble("c", 2 * MINUTE, None, code("GET /c", "", cause)),
    ) == [["a"], ["b"], ["c"]]


def test_slow_code_that_operations_share_is_one_incident() -> None:
    """The same function, the same operation again, or the same traces: one fault, though it began at another moment."""
    shared = trouble("b", 1 * MINUTE, None, code("GET /b", "price a.py"))
    assert keys(trouble("a", 0, None, code("GET /a", "price a.py")), shared) == [["a", "b"]]
    assert keys(trouble("a", 0, 50, code("GET /a")), trouble("b", 90, None, code("GET /a"))) == [["a", "b"]]
    called, calling = code("GET /stock"), code("GET /cart")
    assert keys(trouble("a", 0, None, called, traces="xyz"), trouble("b", 40, None, calling, traces="xy")) == [
        ["a", "b"]
    ]


def test_a_deploy_that_makes_all_code_slow_is_one_incident() -> None:
    """Twenty operations that become slow within seconds of each other do not wake somebody twenty times."""
    together_slow = [trouble(f"{n:02}", n, None, code(f"GET /{n}", f"f{n} a.py")) for n in range(20)]
    assert len(keys(*together_slow)) == 1


def test_what_operations_share_in_a_process_is_one_incident() -> None:
    """A pool that is used up, or too few CPUs, holds up every operation of a process, whenever each shows it."""
    for cause in ("app.cpu_crowded", "app.pool_waited", "app.gil_waited"):
        assert keys(
            trouble("a", 0, None, code("GET /a", cause=cause)), trouble("b", 90, None, code("GET /b", cause=cause))
        ) == [["a", "b"]]
