"""Caps on series, senders and values of tags: who was first stays, the rest is counted and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from spans import a_while_ago, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store import caps
from layerline_correlator.store.caps import ALL_TAGS, STRETCH_S, Caps, Exceeded
from layerline_correlator.store.model import (
    Batch,
    EventRow,
    LogRow,
    PointRow,
    RecordingRow,
    ResourceRow,
    SeriesRow,
    resource_key,
    series_key,
)
from waiting import eventually

SECOND = 10**9


def sender(name: str = "web", **tags: str) -> ResourceRow:
    attributes = {"service.name": name, "host.id": "m", **tags}
    return ResourceRow(resource_key(attributes), attributes)


def points(who: ResourceRow, *values: int, metric: str = "calls") -> Batch:
    """A point of one series for each value of the attribute ``user``."""
    rows = []
    for value in values:
        words = {"user": str(value)}
        rows.append(SeriesRow(series_key(who.resource, metric, words), who.resource, metric, "1", "gauge", words))
    return Batch(resources=[who], series=rows, points=[PointRow(row.series, 0, SECOND, 1.0) for row in rows])


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass for caps: ``minutes(2)``."""
    now = [1_000.0]
    monkeypatch.setattr(caps.time, "monotonic", lambda: now[0])

    def passes(number: float) -> None:
        now[0] += 60 * number

    return passes


def test_the_first_series_stay_and_others_are_refused() -> None:
    """A sender may have a tenth of all: what it sends beyond that is refused, what was there before goes on."""
    counted = Caps(series=100, tag_values=10)
    taken, exceeded = counted.admit(points(sender(), *range(12)))
    assert [row.attributes["user"] for row in taken.series] == [str(number) for number in range(10)]
    assert {row.series for row in taken.points} == {row.series for row in taken.series}
    assert exceeded == (
        Exceeded("series", "calls", "web", "point", 2, "its sender has more than 10 series within two minutes"),
    )
    again = points(sender(), *range(10))
    assert counted.admit(again) == (again, ())
    assert counted.admit(again)[0] is again  # nothing is made anew where all of it is taken


def test_a_machine_has_half_and_all_have_the_whole() -> None:
    """Many senders of one machine leave room for those of others; at last there is no room for anybody."""
    counted = Caps(series=100, tag_values=1000)
    counted._senders.most = 1_000
    whys = [counted.admit(points(sender(f"s{number}"), *range(10)))[1] for number in range(6)]
    assert [bool(why) for why in whys] == [False] * 5 + [True]
    assert whys[5][0].why == "its machine has more than 50 series within two minutes"
    for number in range(5):
        assert not counted.admit(points(sender(f"t{number}", **{"host.id": "n"}), *range(10)))[1]
    assert counted.active().series == 100
    (left,) = counted.admit(points(sender("u", **{"host.id": "o"}), 1))[1]
    assert "more than" in left.why


def test_what_is_gone_makes_room(minutes: Callable[[float], None]) -> None:
    """Containers that come and go by the thousand are beyond no cap, as long as few are there at a time."""
    counted = Caps(series=100, tag_values=10)
    for number in range(200):
        minutes(STRETCH_S / 60)
        assert not counted.admit(points(sender(**{"container.id": f"{number:064x}", "label": f"{number}"}), 1, 2))[1]
        assert counted.active().series <= 4
        assert counted.active().senders <= 2


def test_one_that_keeps_sending_keeps_its_place(minutes: Callable[[float], None]) -> None:
    """A series of which a point came every minute is taken, however many others ask for its place."""
    counted = Caps(series=100, tag_values=10)
    kept = points(sender(), *range(10))
    assert not counted.admit(kept)[1]
    for _ in range(10):
        minutes(1)
        assert not counted.admit(kept)[1]
        assert sum(one.items for one in counted.admit(points(sender(), *range(100, 150)))[1]) == 50
        assert counted.active().series == 10


def recorded(at_s: int, *values: int) -> Batch:
    """Rows of a file that is imported: a point of each series at that second."""
    made = points(sender(), *values)
    made.points[:] = [row._replace(time_ns=at_s * SECOND) for row in made.points]
    made.recordings.append(RecordingRow("/file", 1, 1, at_s, 0, "", 0, 0, False))
    return made


def test_in_recorded_data_minutes_are_those_of_the_data() -> None:
    """A day is read within seconds: series that came one after the other are not active together. Those of the same
    minute are, however slowly they are read; the next file may begin earlier than the last one ended."""
    counted = Caps(series=100, tag_values=10, recorded=True)
    for minute in range(20):
        assert not counted.admit(recorded(600 + 60 * minute, *range(5 * minute, 5 * minute + 5)))[1]
    for second in range(20):
        exceeded = counted.admit(recorded(second, second))[1]
        assert [one.items for one in exceeded] == ([] if second < 10 else [1])
    (note,) = counted.due()
    assert (note.first_ns, note.last_ns, note.items) == (10 * SECOND, 19 * SECOND, 10)


def test_an_import_takes_no_place_of_live_senders(tmp_path: Path) -> None:
    """What is imported beyond a cap is refused and named, at the time it is of; live series come in as before."""
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=0, series=100))
    live = sender("live")
    assert not correlator.append(points(live, *range(5)))
    at_s = a_while_ago(3600) // SECOND
    assert [(one.kind, one.items) for one in correlator.append(recorded(at_s, *range(25)))] == [("series", 15)]
    assert not correlator.append(points(live, *range(5, 10)))
    assert correlator.health().active.series == 10
    correlator.close()
    again = Correlator.open(Settings(store=tmp_path / "store", group_ns=0))
    (told,) = again.coverage((at_s - 1) * SECOND, (at_s + 1) * SECOND).exceeded
    assert (told.cap, told.name, told.sender, told.items) == ("series", "calls", "web", 15)
    again.close()


def test_senders_are_capped_whatever_they_send() -> None:
    """Of a sender beyond the cap spans, points, events and logs are refused, each counted; deploys always come in."""
    counted = Caps(series=30, tag_values=100)
    for number in range(3):
        assert not counted.admit(Batch(resources=[sender(**{"service.instance.id": str(number)})]))[1]
    late, nobody = sender(**{"service.instance.id": "late"}), ResourceRow(resource_key({}), {})
    _, span = span_row({"id": "a", "kind": "server", "ms": [0, 10]}, "7" * 32, a_while_ago())
    much = points(late, 1, 2)
    batch = Batch(
        resources=[late, nobody],
        spans=[span._replace(resource=late.resource), span._replace(resource=nobody.resource)],
        series=much.series,
        points=much.points,
        events=[EventRow(late.resource, 1, "e", "", {}), EventRow(nobody.resource, 1, "deployment.finished", "", {})],
        logs=[LogRow(late.resource, 1, None, None, 9, "INFO", "hello", {})],
    )
    taken, exceeded = counted.admit(batch)
    assert {one.item: one.items for one in exceeded} == {"span": 1, "point": 2, "event": 1, "log": 1}
    assert {one.kind for one in exceeded} == {"senders"}
    assert [row.resource for row in taken.spans] == [nobody.resource]
    assert [row.name for row in taken.events] == ["deployment.finished"]
    assert (taken.resources, taken.series, taken.points, taken.logs) == ([nobody], [], [], [])


def test_a_tag_with_too_many_values_is_left_out_and_nothing_else() -> None:
    """An id in a resource becomes one sender without it; what it sends is kept, under that sender."""
    counted = Caps(series=10_000, tag_values=5)
    found = []
    for number in range(50):
        who = sender(request=str(number), region="abc")
        taken, exceeded = counted.admit(points(who, 1))
        (kept,), (row,), (point,) = taken.resources, taken.series, taken.points
        assert (row.resource, point.series) == (kept.resource, row.series)
        assert row.series == series_key(kept.resource, "calls", {"user": "1"})
        found.append((kept.attributes.get("request"), exceeded))
    assert [value for value, _ in found] == [str(number) for number in range(5)] + [None] * 45
    assert not any(exceeded for _, exceeded in found[:5])
    (told,) = found[7][1]
    assert told[:5] == ("tag values", "request", "web", "tag", 1)
    assert counted.active().senders == 6
    assert counted.active().exceeded == {"tag values": 45}


def test_who_somebody_is_is_never_left_out() -> None:
    """Without ids of containers and processes senders would be mixed up: these are no tags to be left out."""
    counted = Caps(series=10_000, tag_values=5)
    for number in range(100):
        who = {"container.id": f"{number:064x}", "service.instance.id": str(number), "k8s.pod.name": f"p{number}"}
        assert not counted.admit(points(sender(**who), 1))[1]


def test_tags_are_bounded_together() -> None:
    """Names of tags that are made up anew each time do not pile up either."""
    counted = Caps(series=10_000_000, tag_values=5)
    for number in range(1_000):
        counted.admit(Batch(resources=[sender(**{f"tag{number}": "1"})]))
    assert len(counted._values) == ALL_TAGS * 5


def test_notes_are_few(minutes: Callable[[float], None]) -> None:
    """What was beyond a cap is written down once a minute, under 20 names and one for the rest, all of it counted."""
    counted = Caps(series=10, tag_values=10)
    counted.admit(points(sender(), 1))
    for number in range(100):
        counted.admit(points(sender(), 1, 2, metric=f"m{number}"))
    notes = counted.due()
    assert len(notes) == caps.NAMES + 1
    assert sum(note.items for note in notes) == counted.active().exceeded["series"] == 200
    counted.noted()
    counted.admit(points(sender(), 5))
    assert counted.due() == []
    minutes(1)
    assert [note.items for note in counted.due()] == [1]


def test_coverage_names_what_is_beyond_a_cap(tmp_path: Path) -> None:
    """The metric, who sent it, how many points, and what to do; also after a restart."""
    settings = Settings(store=tmp_path / "store", group_ns=0, series=100)
    correlator = Correlator.open(settings)
    now = a_while_ago(0)
    exceeded = correlator.append(points(sender(), *range(25)))
    assert [(one.kind, one.items) for one in exceeded] == [("series", 15)]
    assert correlator.health().active.exceeded == {"series": 15}
    window = now - 600 * SECOND, now + 600 * SECOND
    eventually(lambda: correlator.coverage(*window).exceeded)
    correlator.append(points(sender(), 99))
    correlator.close()  # what was counted since is written down
    again = Correlator.open(settings)
    (told,) = again.coverage(*window).exceeded
    assert (told.cap, told.name, told.sender, told.items) == ("series", "calls", "web", 16)
    assert "LAYERLINE_SERIES" in told.enable
    assert not again.coverage(now - 600 * SECOND, now - 300 * SECOND).exceeded
    with again._store.cursor() as cursor:
        assert cursor.execute("SELECT count(*), count(DISTINCT series) FROM point").fetchall() == [(10, 10)]
    again.close()
