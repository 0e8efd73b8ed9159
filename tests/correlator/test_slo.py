"""What was promised, how fast its budget burns, and the incident that a slow burn is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from shop import During, Request, S, carts, serve
from spans import a_while_ago

from layerline_correlator.correlator import Correlator
from layerline_correlator.incidents.detect import Seen
from layerline_correlator.incidents.slo import Counted, Slo, begun_ns, burns, read_file
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.settings import Settings


def counted(**bad: int) -> dict[int, Counted]:
    """A thousand requests in each window, so many of which were bad."""
    windows = {"m5": 300, "m30": 1800, "h1": 3600, "h6": 21_600, "d3": 259_200}
    return {seconds: Counted(1000, bad.get(name, 0)) for name, seconds in windows.items()}


@pytest.mark.parametrize(
    ("bad", "burning"),
    [
        ({}, [False, False, False]),
        ({"h1": 150, "m5": 150}, [True, False, False]),
        ({"h1": 150, "m5": 140}, [False, False, False]),
        ({"h6": 60, "m30": 60}, [False, True, False]),
        ({"d3": 11, "h6": 11}, [False, False, True]),
        ({"h1": 150}, [False, False, False]),
        ({"m5": 900}, [False, False, False]),
    ],
)
def test_a_budget_burns_over_a_long_and_a_short_window(bad: dict[str, int], burning: list[bool]) -> None:
    """14.4 times as fast as 99 % allow over 1 h and 5 min, 6 times over 6 h and 30 min, as fast over 3 d and 6 h."""
    assert [rule.burning for rule in burns(0.99, counted(**bad))] == burning


def test_few_bad_requests_are_no_burn() -> None:
    """Three of ten are bad, but they are three: too few to say anything."""
    few = {seconds: Counted(10, 3) for seconds in (300, 1800, 3600, 21_600, 259_200)}
    assert not any(rule.burning for rule in burns(0.99, few))


def test_without_requests_there_is_no_rate() -> None:
    """No request is not a rate of zero."""
    assert {rule.long_rate for rule in burns(0.99, {})} == {None}


def test_the_begin_of_a_burn_is_found() -> None:
    """One in a thousand before, one in twenty since: the burn began with the first of these."""
    draw = random.Random(1)  # noqa: S311 - a reproducible test
    seen = [Seen(n * S, n * S + 1, draw.random() < (0.001 if n < 2000 else 0.05)) for n in range(4000)]
    begun = begun_ns(seen, 0.001)
    assert begun is not None
    assert abs(begun - 2000 * S) < 100 * S


def test_a_slow_burn_is_an_incident(tmp_path: Path) -> None:
    """Errors too few to leave the usual range burn the budget of an SLO from a file: one incident that says so."""
    file = tmp_path / "slos.toml"
    file.write_text('[[slo]]\nservice = "web"\noperation = "GET /cart"\nobjective = 0.999\n')

    def now_and_then(request: Request, draw: random.Random) -> None:
        request.status = 2 if draw.random() < 0.04 else 0

    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000, slos=file))
    try:
        zero_ns = a_while_ago(1210)
        serve(correlator, carts(zero_ns, 1200, During(300, 1200, now_and_then), rate=1.0))
        correlator._watch._slos_ns = 0  # they are looked at once a minute, and may have been before all was worked out
        correlator.look_for_incidents()
        (item,) = correlator.incidents.list(IncidentQuery(zero_ns, zero_ns + 3600 * S)).items
        incident = correlator.incidents.one(item["id"])
        (slo,) = correlator.incidents.slos()
    finally:
        correlator.close()
    assert incident is not None
    assert incident["state"] == "open"
    assert [hit["signs"] for hit in incident["hit"]] == [["slo"]]
    assert incident["affected"] == incident["hit"][0]["errors"] >= 10
    assert slo.burning
    assert slo.budget_left_ratio is not None
    assert slo.budget_left_ratio < 0


@pytest.mark.parametrize(
    "text",
    ["[[slo]]", "slo = 3", "[[slo", '[[slo]]\nservice = "web"\nobjective = 99\n'],
)
def test_a_file_that_holds_no_slos_is_refused(tmp_path: Path, text: str) -> None:
    """The message names the file and what is wrong with it."""
    file = tmp_path / "slos.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=str(file)):
        read_file(file)


def test_a_promise_of_the_same_requests_is_the_same_slo() -> None:
    """Its id follows from what it is about, not from the objective."""
    assert Slo("web", None, 0.9, None).id == Slo("web", None, 0.99, None).id
    assert Slo("web", None, 0.9, None).id != Slo("web", None, 0.9, 1).id
