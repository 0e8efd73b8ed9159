"""`layerline evaluate`: labelled cases, what is right about what is said of them, and the floors beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spans import batch, span_row

from layerline_api.commands import evaluate as command
from layerline_api.evaluate.floors import largest_cpu, largest_gap
from layerline_api.evaluate.labels import BadLabel, Label, labels_below
from layerline_api.evaluate.score import Named, Said, score, summarise
from layerline_correlator.correlator import Correlator
from layerline_correlator.entity import Entity
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, PointRow, ResourceRow, SeriesRow

ZERO_NS = 1_790_000_000_000_000_000
_WINDOW = {"from": "2026-09-21T14:13:20Z", "to": "2026-09-21T14:14:20Z"}
_THROTTLED = Named("container.cpu_throttled", "container", "c1", "cart", "cart", 180_000_000)
_BUSY = Named("app.cpu_busy", "container", "c2", "web", "web", 20_000_000)


def _label(**fields: Any) -> Label:
    return Label.model_validate({**_WINDOW, **fields})


def _said(*culprits: Named, conclusive: bool = True, **more: Any) -> Said:
    return Said(culprits, culprits, conclusive, **more)


def test_the_first_must_be_right_and_nobody_missing() -> None:
    """Cause and entity of the first, all faults among the culprits, and conclusive; else it is a miss that may count
    for entity, layer or the first three all the same."""
    fault = {"entity": "cart", "cause": "container.cpu_throttled", "ms": 200}
    label = _label(fault=[fault])
    whole = score(label, _said(_THROTTLED, _BUSY))
    assert (whole.right, whole.first_entity, whole.first_layer, whole.error_ns) == (True, True, True, (20_000_000,))
    second = score(label, _said(_BUSY, _THROTTLED))
    assert (second.right, second.first_entity, second.third_entity, second.third_layer) == (False, False, True, True)
    unsure = score(label, _said(_THROTTLED, conclusive=False))
    assert (unsure.right, unsure.first, unsure.abstained, unsure.is_hit) == (False, True, True, False)
    assert score(_label(fault=[fault], expects_blind=True), _said()).is_hit
    other = {"entity": "db", "cause": "host.io_saturated", "ms": 190}
    assert not score(_label(fault=[fault, other]), _said(_THROTTLED, _BUSY)).right


def test_a_layer_alone_and_an_address_will_do() -> None:
    """Where the label names no cause the layer decides; a dependency is known by its host too."""
    label = _label(fault=[{"entity": "prices", "layer": "dependency"}])
    slow = Named("dependency.slow", "service", "prices:8000", "prices:8000", "web", 1)
    assert score(label, _said(slow)).right
    assert not score(label, _said(Named("network.transit_slow", "service", "prices:8000", "prices:8000"))).right


def test_quiet_cases_count_false_blame_and_incidents() -> None:
    """Blame below what makes a request slow is none; an incident in a quiet window is a false one."""
    quiet = _label(quiet=True)
    assert not score(quiet, _said(_BUSY)).false_blame
    assert score(quiet, _said(_THROTTLED)).false_blame
    figures = summarise([score(quiet, _said(_BUSY)), score(quiet, _said(_THROTTLED, incidents=1))])
    assert (figures.false_blame, figures.false_incidents, figures.right) == (0.5, 0.5, None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("from =", "it cannot be read"),
        ('from = "2026-01-01T00:00:00Z"\nquiet = true', "expected from and to, or trace"),
        ('trace = "1"', "expected at least one fault, or quiet = true"),
        ('from = "x"\nto = "y"\nquiet = true', "from is 'x'; expected a time with its zone"),
        ('from = "2026-01-01T00:00:00Z"\nto = "2025-01-01T00:00:00Z"\nquiet = true', "expected from before to"),
        ('trace = "1"\n[[fault]]\nlayer = "cloud"', "expected one of app, dependency"),
        ('trace = "1"\nquiet = true\ncolour = "red"', "colour: Extra inputs are not permitted"),
    ],
)
def test_a_bad_label_is_named(tmp_path: Path, text: str, why: str) -> None:
    """The file, what was expected and what was found."""
    (tmp_path / "label.toml").write_text(text)
    with pytest.raises(BadLabel) as problem:
        labels_below(tmp_path)
    assert str(tmp_path / "label.toml") in str(problem.value)
    assert why in str(problem.value)


def test_without_a_label_there_is_nothing_to_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and what was expected."""
    assert command.main([str(tmp_path)]) == 2
    assert "expected label.toml, label.json or labels.jsonl in or below it" in capsys.readouterr().err


def test_cases_in_a_store_are_scored_and_the_store_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two requests of a kept store: what is said of each is scored, one that is not there is a failure."""
    store = tmp_path / "run" / "store"
    correlator = Correlator.open(Settings(store=store))
    rows = []
    for number in range(40):
        drawn = [{"id": f"{number:02x}", "kind": "server", "service": "web", "name": "GET /", "ms": [0, 20]}]
        rows += [span_row(one, f"{number + 1:032x}", ZERO_NS + number * 10**9) for one in drawn]
    correlator.append(batch(rows))
    correlator.look_for_incidents()
    correlator.close()
    before = (store / "hot.duckdb").read_bytes()
    labels = [
        {"store": "store", "trace": f"{40:032x}", "quiet": True},
        {"store": "store", "trace": "f" * 32, "fault": [{"entity": "web", "layer": "app"}]},
    ]
    (tmp_path / "run" / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    assert command.main(["--json", str(tmp_path)]) == 1
    *cases, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [case["false_blame"] for case in cases] == [False, False]
    assert [case["failure"] for case in cases] == [None, f"the request {'f' * 32} is not known"]
    assert (last["figures"]["quiet"], last["figures"]["faulty"], last["figures"]["false_blame"]) == (1, 1, 0.0)
    assert (store / "hot.duckdb").read_bytes() == before


def test_the_floors_name_who_moved_most(tmp_path: Path) -> None:
    """Of two services' CPU figures the one that rose; of two calls the one whose gap grew."""
    correlator = Correlator.open(Settings(store=tmp_path))
    series, points, resources, rows = [], [], [], []
    for name in ("cart", "stock"):
        resources.append(ResourceRow(name, {"service.name": name}))
        series.append(SeriesRow(f"cpu {name}", name, "cpu_usage", "", "gauge", {}))
        for second in range(120):
            moved = 5.0 if name == "cart" and second >= 60 else 0.0
            points.append(PointRow(f"cpu {name}", 0, ZERO_NS + second * 10**9, 1.0 + second % 3 * 0.1 + moved))
    for second in range(120):
        slow = 80 if second >= 60 else 0
        drawn = [
            {"id": "a", "kind": "server", "service": "web", "name": "GET /", "ms": [0, 200]},
            {"id": "b", "parent": "a", "kind": "client", "service": "web", "name": "cart", "ms": [1, 21]},
            {"id": "c", "parent": "b", "kind": "server", "service": "cart", "name": "cart", "ms": [2, 20]},
            {"id": "d", "parent": "a", "kind": "client", "service": "web", "name": "stock", "ms": [30, 60 + slow]},
            {"id": "e", "parent": "d", "kind": "server", "service": "stock", "name": "stock", "ms": [31, 50]},
        ]
        rows += [span_row(one, f"{second + 1:032x}", ZERO_NS + second * 10**9) for one in drawn]
    correlator.append(batch(rows))
    correlator.append(Batch(resources=resources, series=series, points=points))
    window = ZERO_NS + 60 * 10**9, ZERO_NS + 120 * 10**9

    def name(kind: str, identity: str) -> Entity:
        return Entity(kind, identity, identity)

    try:
        assert correlator.ask(largest_cpu, *window, name)[0].is_entity("cart")
        assert correlator.ask(largest_gap, *window, name)[0].is_entity("stock")
    finally:
        correlator.close()
