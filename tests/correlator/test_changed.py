"""What `why` says of a window: what changed against the time before, by whom, and nothing where nothing did."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from spans import MS, a_while_ago, alone, batch, drawn_name, own, span_row, together, told_by_docker_stats

from layerline_correlator.correlator import Correlator
from layerline_correlator.plain import plain
from layerline_correlator.questions import changed
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, ResourceRow, SpanRow, resource_key
from layerline_correlator.verdict.failures import Times, before
from layerline_correlator.verdict.model import Verdict

pytestmark = pytest.mark.long

S = 10**9
MINUTE = 60 * S
#: How long both times are, and how many requests each has.
LONG_NS, REQUESTS = 15 * MINUTE, 100
#: What callees take in milliseconds, themselves and on the way to them: rates has a standing gap.
CALLED = {"rates": (40, 80), "payment": (5, 2), "shipping": (20, 3)}


@dataclass
class Checkout:
    """One checkout before it is drawn, in milliseconds: the shop's own time, and each callee's with the way to it."""

    own: float
    took: dict[str, float] = field(default_factory=dict)
    way: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    container: str = "shop-1"


Fault = Callable[[Checkout, int], None]


@dataclass(frozen=True)
class Shop:
    """What changes in the second of both times, and how many requests there are."""

    fault: Fault | None = None
    before: int = REQUESTS
    now: int = REQUESTS
    cpu_ms: float = 0.0


def healthy(draw: random.Random) -> Checkout:
    """Two kinds of checkouts under one name: two fifths have four times as much to rate."""
    much = draw.random() < 0.4
    one = Checkout(own=6 * draw.lognormvariate(0, 0.4))
    for name, (took, way) in CALLED.items():
        one.took[name] = took * draw.lognormvariate(0, 0.5) * (4 if much and name == "rates" else 1)
        one.way[name] = way * draw.lognormvariate(0, 0.6)
    return one


def drawn(one: Checkout, number: int, at_ns: int) -> list[tuple[ResourceRow, SpanRow]]:
    """As plain SDKs send it: no account, callees known by their address, in containers that nobody reads."""
    spans: list[dict[str, Any]] = []
    at = one.own / 2
    for name in CALLED:
        way, took = one.way[name], one.took[name]
        call = {"id": f"c{name[0]}{number}", "parent": f"w{number}", "kind": "client", "name": f"call {name}",
                "service": "shop", "container": one.container, "ms": [at, at + way + took],
                "attributes": {"server.address": name}}  # fmt: skip
        answer = {"id": f"s{name[0]}{number}", "parent": call["id"], "kind": "server", "name": f"serve {name}",
                  "service": name, "container": f"{name}-1", "ms": [at + way, at + way + took]}  # fmt: skip
        spans += [call, answer]
        at += way + took
    top = {"id": f"w{number}", "kind": "server", "name": "POST /checkout", "service": "shop",
           "container": one.container, "ms": [0, at + one.own / 2]}  # fmt: skip
    rows = [span_row(span, f"{number:032x}", at_ns) for span in [top, *spans]]
    return [_of_version(row, one.versions) for row in rows]


def _of_version(row: tuple[ResourceRow, SpanRow], versions: dict[str, str]) -> tuple[ResourceRow, SpanRow]:
    version = versions.get(row[0].attributes["service.name"])
    if version is None:
        return row
    more = row[0].attributes | {"service.version": version}
    return ResourceRow(resource_key(more), more), row[1]._replace(resource=resource_key(more))


def opened(shop: Shop, place: int, now_ns: int) -> Batch:
    """All requests of both times, from services, containers and machines of its own."""
    draw, rows = random.Random(place), []  # noqa: S311 - a reproducible test
    for number in range(shop.before + shop.now):
        is_now = number >= shop.before
        one = healthy(draw)
        one.versions["shop"] = "1.4"
        count, nth = (shop.now, number - shop.before) if is_now else (shop.before, number)
        if is_now and shop.fault is not None:
            shop.fault(one, nth)
        begin_ns = now_ns - (LONG_NS if is_now else 2 * LONG_NS)
        at_ns = begin_ns + round((nth + draw.random() / 2) * LONG_NS / count)
        rows += drawn(one, 100_000 * place + number, at_ns)
    return alone(batch(rows, readings(now_ns, shop.cpu_ms) if shop.cpu_ms else []), place)


def readings(now_ns: int, cpu_ms: float) -> list[Any]:
    """The shop's CPU time as a Collector's docker_stats reads it every 60 s; more by so much in the second time."""
    at = [minute * 60_000 for minute in range(-31, 1)]
    values = [1000.0]
    for minute in range(-30, 1):
        values.append(values[-1] + 40 + (cpu_ms if minute > -15 else 0))
    drawn = {"signal": "container.cpu.time", "container": "shop-1", "at": at, "values": values}
    return [told_by_docker_stats(drawn, now_ns)]


def some_at_payment(one: Checkout, nth: int) -> None:
    """5 % of the requests gain 600 ms on the way to payment."""
    if nth % 20 == 7:
        one.way["payment"] += 600


def all_at_shipping(one: Checkout, nth: int) -> None:
    """Shipping takes longer itself and is reached later; rates grew by more than either, and by less than both."""
    one.took["shipping"] += 40
    one.way["shipping"] += 35
    one.took["rates"] += 65


def own_code(one: Checkout, nth: int) -> None:
    """The shop itself takes 60 ms more."""
    one.own += 60


def deployed(one: Checkout, nth: int) -> None:
    """Another version, in a container that was made anew: as quick as before."""
    one.versions["shop"], one.container = "1.5", "shop-2"


def one_pause(one: Checkout, nth: int) -> None:
    """A single request waits for 20 s."""
    if nth == 70:
        one.way["payment"] += 20_000


def less_to_rate(one: Checkout, nth: int) -> None:
    """Rates takes a fifth of its time."""
    one.took["rates"] *= 0.2
    one.way["rates"] *= 0.2


SHOPS = {
    "payment": Shop(some_at_payment),
    "shipping": Shop(all_at_shipping),
    "own code": Shop(own_code),
    "healthy": Shop(),
    "deployed": Shop(deployed),
    "one pause": Shop(one_pause),
    "less to rate": Shop(less_to_rate),
    "stressed": Shop(own_code, cpu_ms=30_000),
    "few": Shop(own_code, now=4),
    "first": Shop(own_code, before=0, now=30),
}
PLACES = {name: place for place, name in enumerate(SHOPS, 1)}


@dataclass(frozen=True)
class Street:
    """All shops in one store, when the second of both times ends, and what is said of it."""

    correlator: Correlator
    now_ns: int
    said: list[Verdict]

    def verdicts(self, shop: str) -> list[Verdict]:
        """All verdicts of the second time about a service of this shop."""
        return [one for one in self.said if one.service.endswith(f"~{PLACES[shop]}")]

    def checkout(self, shop: str) -> Verdict:
        """That of its checkouts."""
        (found,) = [one for one in self.verdicts(shop) if one.operation == "POST /checkout"]
        return found

    def asked_anew(self, shop: str) -> Verdict:
        """The same, asked by itself."""
        query = RequestQuery(
            self.now_ns - LONG_NS, self.now_ns, service=own("shop", PLACES[shop]), operation="POST /checkout"
        )
        return self.correlator.verdicts(query).items[0]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    now_ns = a_while_ago(120)
    folder: Path = tmp_path_factory.mktemp("street")
    correlator = Correlator.open(Settings(store=folder / "store", group_ns=1_000_000))
    with correlator._watch._lock:  # no incident is looked for: what they leave out is tested by itself
        correlator.append(together(opened(shop, PLACES[name], now_ns) for name, shop in SHOPS.items()))
        while correlator._pass():
            pass
        query = RequestQuery(now_ns - LONG_NS, now_ns, limit=1000)
        yield Street(correlator, now_ns, correlator.verdicts(query).items)
    correlator.close()


def names(verdict: Verdict) -> list[str]:
    """The culprits by the names that the drawing has."""
    return [drawn_name(one.entity.name) for one in verdict.culprits]


def state(verdict: Verdict) -> str:
    """What is said of the change."""
    assert verdict.change is not None
    return verdict.change.state


def test_what_grew_is_the_headline_and_not_what_is_always_there(street: Street) -> None:
    """5 % of requests gain 600 ms on the way to payment, while rates takes most of all of them: payment is named,
    alone; rates is always there; the examples are requests that gained."""
    verdict = street.checkout("payment")
    assert (state(verdict), verdict.ranked_by) == ("changed", "change")
    (culprit,) = verdict.culprits
    assert (drawn_name(culprit.entity.name), culprit.cause) == ("payment", "network.transit_slow")
    assert culprit.change_ns == pytest.approx(600 * MS * 5 / REQUESTS, rel=0.1)
    assert verdict.standing is not None
    assert "rates" in {drawn_name(one.entity.name).removesuffix("-1") for one in verdict.standing}
    gained = {f"{100_000 * PLACES['payment'] + REQUESTS + nth:032x}" for nth in range(7, REQUESTS, 20)}
    assert verdict.examples
    assert set(verdict.examples) <= gained
    assert verdict.against is not None
    assert (verdict.requests, verdict.against.requests) == (REQUESTS, REQUESTS)


def test_blame_is_added_up_by_entity(street: Street) -> None:
    """Shipping takes longer itself (nothing explains it) and on the way to it: it leads with both together, though
    rates grew by more than either; below, it is split again, and the parts say by how much each cause changed."""
    verdict = street.checkout("shipping")
    first, second = verdict.culprits[:2]
    assert [drawn_name(one.entity.name).removesuffix("-1") for one in (first, second)] == ["shipping", "rates"]
    assert first.change_ns == pytest.approx(75 * MS, rel=0.15)
    assert {one.cause for one in first.causes or ()} == {"unexplained", "network.transit_slow"}
    assert sum(one.change_ns for one in first.causes or ()) == pytest.approx(first.change_ns, rel=0.02)
    way = next(part for part in verdict.parts if drawn_name(part.entity.id) == "shipping")
    assert way.change_ns == pytest.approx(35 * MS, rel=0.15)


def test_own_time_that_nothing_explains_is_blamed_with_that_word(street: Street) -> None:
    """The shop's own 60 ms are the container's, unexplained, and its callees' requests did not change."""
    verdicts = {drawn_name(one.service): one for one in street.verdicts("own code")}
    culprit = verdicts["shop"].culprits[0]
    assert (culprit.cause, culprit.entity.type, culprit.share_of_excess) == (
        "unexplained",
        "container",
        pytest.approx(1, abs=0.2),
    )
    assert [names(one) for service, one in verdicts.items() if service != "shop"] == [[]] * (len(verdicts) - 1)


def test_a_stressor_is_not_said_to_be_the_operations_code(street: Street) -> None:
    """The container used half a CPU more than its requests can have, by readings of 60 s: it is named, and nobody is
    said to have worked there alone, or told to profile."""
    verdict = street.checkout("stressed")
    assert drawn_name(verdict.culprits[0].entity.name) == "shop-1"
    assert not verdict.conclusive
    (part,) = [one for one in verdict.parts if one.cause == "app.cpu_busy" and one.change_ns]
    assert (part.evidence, part.low_ns) == ("inferred", 0)
    assert part.because.endswith("was open; its readings are 60 s apart, too far to say whose it was")
    assert part.try_.startswith("See first whose CPU time it is")


@pytest.mark.parametrize("shop", ["healthy", "deployed", "one pause"])
def test_where_nothing_changed_nobody_is_named(street: Street, shop: str) -> None:
    """A mixed operation has slow requests as ever, a container was made anew, one request waited: nothing changed."""
    verdicts = street.verdicts(shop)
    assert [(names(one), one.suspects, state(one)) for one in verdicts] == [([], [], "nothing")] * len(verdicts)


def test_an_operation_that_became_quicker_has_no_culprit(street: Street) -> None:
    """Rates takes a fifth of its time: that is said, and nobody is blamed."""
    found = [one for one in street.verdicts("less to rate") if one.operation == "POST /checkout"]
    assert [(state(one), one.culprits) for one in found] in ([], [("quicker", [])])


@pytest.mark.parametrize(("shop", "said"), [("few", "too_few"), ("first", "no_before")])
def test_what_cannot_be_compared_is_not(street: Street, shop: str, said: str) -> None:
    """Four requests, or none before: that is said, and slow requests are judged by what is known of them."""
    found = [one for one in street.verdicts(shop) if one.operation == "POST /checkout"]
    assert {(state(one), one.ranked_by) for one in found} <= {(said, "excess"), (said, "lost")}


def test_new_versions_are_named(street: Street) -> None:
    """The version that answers since the window began stands beside; one that was there before does not."""
    for shop, versions in (("deployed", [f"{own('shop', PLACES['deployed'])} 1.5"]), ("payment", [])):
        for verdict in street.verdicts(shop):
            if verdict.operation == "POST /checkout":
                assert verdict.change is not None
                assert verdict.change.versions == versions


def test_numbers_of_both_times_stand_beside(street: Street) -> None:
    """Requests per second, quantiles and means of the window and of the time before."""
    verdict = street.checkout("own code")
    assert verdict.change is not None
    assert verdict.against is not None
    assert verdict.change.requests_per_second == verdict.change.requests_per_second_before == pytest.approx(1 / 9, 1e-3)
    assert verdict.change.p50_ns is not None
    assert verdict.against.p50_ns is not None
    assert verdict.change.p50_ns - verdict.against.p50_ns == pytest.approx(60 * MS, rel=0.5)
    assert verdict.change.change_ns == pytest.approx(60 * MS, rel=0.5)
    told = plain(verdict)
    assert {"before_ns", "change_ns"} <= set(told["parts"][0])
    assert sum(part["lost_ns"] for part in told["parts"]) + told["unexplained_ns"] == told["duration_ns"]


def test_another_time_can_be_compared_with(street: Street) -> None:
    """Against the window's own first half, in which the same fault was, nothing changed."""
    now_ns, half_ns = street.now_ns, LONG_NS // 2
    query = RequestQuery(
        now_ns - half_ns, now_ns, service=own("shop", PLACES["own code"]), against=(now_ns - LONG_NS, now_ns - half_ns)
    )
    assert [(state(one), one.culprits) for one in street.correlator.verdicts(query).items] in ([], [("nothing", [])])
    compared = street.correlator.verdicts(replace(query, against=(now_ns - 2 * LONG_NS, now_ns - LONG_NS))).items
    assert [drawn_name(one.entity.name) for one in compared[0].culprits] == ["shop"]


def test_minutes_say_the_same_as_rows(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are many ledgers, minutes that are summed up are read: the same are named, with the same amounts."""
    by_rows = {shop: street.checkout(shop) for shop in ("payment", "shipping", "own code")}
    monkeypatch.setattr(changed, "ROWS", 0)
    street.correlator.summing.catch_up()
    for shop, rows in by_rows.items():
        minutes = street.asked_anew(shop)
        assert names(minutes)[0] == names(rows)[0]
        assert minutes.culprits[0].change_ns == pytest.approx(rows.culprits[0].change_ns, 0.01)


def test_time_inside_an_incident_is_not_compared_with(correlator: Correlator) -> None:
    """Where the window begins inside an incident, it is compared with the time before that; else with the time right
    before, as long as the window and at least 15 minutes."""
    now_ns = a_while_ago(0)
    with correlator._reading() as cursor:
        assert before(cursor, now_ns - MINUTE, now_ns, None, None) == Times(
            now_ns - MINUTE, now_ns, now_ns - 16 * MINUTE, now_ns - MINUTE
        )
        hour = before(cursor, now_ns - 60 * MINUTE, now_ns, None, None)
        assert (hour.before_ns, hour.before_to_ns) == (now_ns - 120 * MINUTE, now_ns - 60 * MINUTE)
    with correlator._writing() as cursor:
        cursor.execute(
            "INSERT INTO trouble BY NAME SELECT 'shop' AS service, 'GET /' AS operation, $start_ns AS start_ns,"
            " FALSE AS lasting",
            {"start_ns": now_ns - 20 * MINUTE},
        ).fetchall()
    with correlator._reading() as cursor:
        for service, until_ns in (("shop", now_ns - 20 * MINUTE), (None, now_ns - 20 * MINUTE), ("x", now_ns - MINUTE)):
            found = before(cursor, now_ns - MINUTE, now_ns, service, None)
            assert (found.before_ns, found.before_to_ns) == (until_ns - 15 * MINUTE, until_ns)


@pytest.mark.parametrize(("calm", "named"), [(25, ["shop"]), (10, [])])
def test_a_rare_operation_is_compared_without_others_incidents(
    correlator: Correlator, calm: int, named: list[str]
) -> None:
    """What was slow while its service's carts were in trouble is no usual report, where enough others are left."""
    now_ns = a_while_ago(120)
    rows: list[tuple[ResourceRow, SpanRow]] = []

    def report(number: int, at_s: float, took_ms: float) -> None:
        drawn = {"id": "r", "kind": "server", "name": "GET /report", "ms": [0, took_ms], "service": "shop"}
        rows.append(span_row(drawn, f"{number + 1:032x}", now_ns + round(at_s * S)))

    for number in range(calm):
        report(number, -600 + 10 * number, 60 + number % 7)
    for number in range(25):  # in trouble
        report(100 + number, -200 + 2 * number, 1_500)
    for number in range(6):
        report(200 + number, -60 + 9 * number, 660 + number)
    with correlator._watch._lock:
        correlator.append(batch(rows))
        while correlator._pass():
            pass
        with correlator._writing() as cursor:
            cursor.execute(
                "INSERT INTO trouble BY NAME SELECT 'shop' AS service, 'GET /cart' AS operation, $from_ns AS start_ns,"
                " $to_ns AS end_ns, FALSE AS lasting",
                {"from_ns": now_ns - 210 * S, "to_ns": now_ns - 140 * S},
            ).fetchall()
        found = correlator.verdicts(RequestQuery(now_ns - 61 * S, now_ns, limit=10)).items
    assert [culprit.entity.name for one in found for culprit in one.culprits] == named
