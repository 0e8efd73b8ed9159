"""A name on one network may be somebody else's on another: the dead are not blamed for the living."""

from __future__ import annotations

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
