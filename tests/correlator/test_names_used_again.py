"""A name on one network may be somebody else's on another: the dead are not blamed for the living."""

from __future__ import annotations

import pytest
from spans import MS, a_while_ago, batch, container_id, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.store.model import EventRow, ResourceRow, resource_key

TRACE = "5a3e5a3e" * 4


def described(name: str) -> ResourceRow:
    attributes = {
        "container.id": container_id(name),
        "container.name": name,
        "layerline.boot_id": "host-1",
        "layerline.container.aliases": '["supplier"]',
    }
    return ResourceRow(resource_key(attributes), attributes)


def test_of_two_with_one_name_the_dead_one_was_not_called(correlator: Correlator) -> None:
    """A container that had ended had the same alias as the one that answered late: the dependency was slow."""
    zero_ns = a_while_ago()
    call = {
        "id": "b", "kind": "client", "name": "GET", "container": "web-1", "ms": [0, 500], "cpu": 0, "switches": 9,
        "attributes": {"server.address": "supplier"},
    }  # fmt: skip
    events = [
        (described(name), EventRow(described(name).resource, zero_ns + at * MS, what, "", {}))
        for name, what, at in (
            ("supplier-old", "container.start", -90_000),
            ("supplier-old", "container.die", -60_000),
            ("supplier-new", "container.start", -30_000),
        )
    ]
    correlator.append(batch([span_row(call, TRACE, zero_ns)], events=events))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    assert {part.cause: part.lost_ns for part in verdict.parts} == {"dependency.slow": 500 * MS}


def on_machine(host: str, drawn: str, name: str) -> ResourceRow:
    """What the agent of a machine says of one of its containers."""
    attributes = {"container.id": container_id(drawn), "container.name": name, "layerline.boot_id": host}
    return ResourceRow(resource_key(attributes), attributes)


HERE, THERE = "host-1", "host-2"


@pytest.mark.parametrize(
    ("events", "parts", "said"),
    [
        pytest.param(
            [(HERE, "here", -90_000, "start"), (THERE, "there", 100, "die"), (THERE, "there", 400, "start")],
            {"dependency.slow": 500},
            "",
            id="another machine's died",
        ),
        pytest.param(
            [(THERE, "there", 100, "die"), (THERE, "there", 400, "start"), (HERE, "here", 600_000, "start")],
            {"dependency.slow": 500},
            "",
            id="another machine's died and nothing is known of its own",
        ),
        pytest.param(
            [(HERE, "here", 100, "die"), (THERE, "there", 200, "start"), (HERE, "here again", 400, "start")],
            {"container.restarted": 400, "dependency.slow": 100},
            "it had ended, and was started again 300 ms later",
            id="its own was made anew, and another machine's started before that",
        ),
        pytest.param(
            [(HERE, "here", 100, "die"), (THERE, "there", 200, "start")],
            {"container.restarted": 400, "dependency.slow": 100},
            "it had ended",
            id="its own ended, and another machine's started",
        ),
    ],
)
def test_two_machines_with_one_name(
    correlator: Correlator, events: list[tuple[str, str, int, str]], parts: dict[str, int], said: str
) -> None:
    """Where two machines have a container of one name, a caller waits for that of its own machine, in all its lives."""
    zero_ns = a_while_ago()
    call = {
        "id": "b", "kind": "client", "name": "GET", "container": "web-1", "ms": [0, 500], "cpu": 0, "switches": 9,
        "attributes": {"server.address": "stock"},
    }  # fmt: skip
    told = [
        (owner, EventRow(owner.resource, zero_ns + at * MS, f"container.{what}", "", {}))
        for host, drawn, at, what in events
        for owner in [on_machine(host, drawn, "stock")]
    ]
    correlator.append(batch([span_row(call, TRACE, zero_ns)], events=told))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    assert {part.cause: part.lost_ns for part in verdict.parts} == {name: lost * MS for name, lost in parts.items()}
    assert all(part.because.endswith(said) for part in verdict.parts if part.cause == "container.restarted")


@pytest.mark.parametrize(("now", "lost_ms"), [("stock-before", 800), ("stock", 600)])
def test_who_had_the_name_before_does_not_answer_for_it(correlator: Correlator, now: str, lost_ms: int) -> None:
    """A container of the same name that answers ends the time of death; one that was renamed is another container."""
    zero_ns = a_while_ago()
    dead, other = on_machine(HERE, "stock-1", "stock"), "stock-2"
    spans = [
        {"id": "b", "kind": "client", "name": "GET", "container": "web-1", "ms": [0, 1000], "cpu": 0, "switches": 9},
        {"id": "c", "parent": "b", "kind": "server", "service": "stock", "container": "stock-1", "ms": [900, 1000],
         "cpu": 100},
    ]  # fmt: skip
    answer = {"id": "x", "kind": "server", "service": "stock", "container": other, "ms": [700, 710], "cpu": 10}
    for name in dict.fromkeys(("stock", now)):
        one = on_machine(HERE, other, name)
        correlator.append(batch([], events=[(one, EventRow(one.resource, zero_ns - 3_600_000 * MS, "seen", "", {}))]))
    events = [
        (dead, EventRow(dead.resource, zero_ns + at * MS, f"container.{what}", "", {}))
        for what, at in (("kill", 100), ("die", 300), ("start", 600))
    ]
    rows = [*(span_row(one, TRACE, zero_ns) for one in spans), span_row(answer, TRACE[::-1], zero_ns)]
    correlator.append(batch(rows, events=events))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    assert {part.cause: part.lost_ns for part in verdict.parts}["container.restarted"] == lost_ms * MS
