"""Which changes near the start of an incident have to do with it."""

from __future__ import annotations

from layerline_correlator.entity import Entity
from layerline_correlator.incidents.changes import Happened, Path, judge_changes
from layerline_correlator.incidents.group import Blamed

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
