"""The rules of judgement, as drawings: a few spans, a line of readings, the ledger that must come out.

A cause ``container.cpu_throttled`` is tested by ``tests/scenarios/container_cpu_throttled.toml``. Each scenario says in
``must`` what has to be true (``drawings.py``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawings import check, judged

from layerline_correlator.correlator import Correlator
from layerline_correlator.ledger.causes import all_causes
from layerline_correlator.settings import Settings
from layerline_correlator.verdict.model import Verdict

SCENARIOS = Path(__file__).parent.parent / "scenarios"
FILES = sorted(SCENARIOS.glob("*.toml"))
#: Each with the name of its file.
DRAWN: list[tuple[str, dict[str, Any]]] = [
    (path.stem, scenario) for path in FILES for scenario in tomllib.loads(path.read_text(encoding="utf-8"))["scenario"]
]


def test_every_cause_has_its_scenarios() -> None:
    """A cause is not believed before it has been seen to happen, to be told from its look-alike, and to be blind."""
    for cause in all_causes():
        path = SCENARIOS / f"{cause.name.replace('.', '_')}.toml"
        assert path.exists(), f"{cause.name} has no {path.name}"
        kinds = {scenario["kind"] for scenario in tomllib.loads(path.read_text(encoding="utf-8"))["scenario"]}
        assert kinds >= {"happened", "look-alike", "missing"}, f"{path.name} has only {kinds}"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Verdict]]:
    """What one store says of all scenarios: to open one for each took minutes."""
    opened = Correlator.open(Settings(store=tmp_path_factory.mktemp("scenarios") / "store", group_ns=0))
    yield judged([scenario for _, scenario in DRAWN], opened)
    opened.close()


@pytest.mark.parametrize(
    "number", [pytest.param(number, id=f"{stem}: {one['must']}") for number, (stem, one) in enumerate(DRAWN)]
)
def test_scenario(number: int, verdicts: list[Verdict]) -> None:
    """The ledger of the drawing is the one that its author worked out by hand."""
    check(DRAWN[number][1], verdicts[number])
