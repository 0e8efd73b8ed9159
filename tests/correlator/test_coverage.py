"""Coverage on data that was counted by hand: what was tied, what was read, what was blind and who lived unseen."""

from __future__ import annotations

from typing import Any

import pytest
from spans import MS, a_while_ago, batch, container_id, series_rows, span_row, together
from test_join import description

from layerline_correlator.correlator import Correlator
from layerline_correlator.plain import plain
from layerline_correlator.questions import coverage as coverage_module
from layerline_correlator.questions.coverage import Coverage
from layerline_correlator.store.model import (
    CLIENT,
    Batch,
    EventRow,
    PointRow,
    ResourceRow,
    SeriesRow,
    SpanRow,
    resource_key,
    series_key,
)
from layerline_correlator.times import rfc3339

pytestmark = pytest.mark.long

SECOND = 10**9


def resource(attributes: dict[str, str]) -> ResourceRow:
    return ResourceRow(resource_key(attributes), attributes)


WEB = resource({"service.name": "web", "container.id": container_id("web-1"), "layerline.boot_id": "host-1"})
STRAY = resource({"service.name": "web", "container.id": "2", "host.name": "somewhere"})
CRON = resource({"service.name": "cron", "layerline.boot_id": "host-1", "process.pid": "7"})


def span(owner: ResourceRow, number: int, zero_ns: int, **drawn: Any) -> SpanRow:
    """One request of 20 ms, ``number`` seconds after zero."""
    drawn = {"id": f"s{number}", "kind": "server", "ms": [number * 1000, number * 1000 + 20]} | drawn
    return span_row(drawn, f"{number + 1:032x}", zero_ns)[1]._replace(resource=owner.resource)


def covered(correlator: Correlator, zero_ns: int, service: str | None = None) -> Coverage:
    """Of the minute from zero on."""
    return correlator.coverage(zero_ns, zero_ns + 60 * SECOND, service)


def test_joins_are_counted_by_method_and_reason(correlator: Correlator) -> None:
    """Eight spans of web in its container, two of an impostor, one of cron outside: each is counted in its place."""
    zero_ns = a_while_ago(120)
    known = [description({"container": "web-1"}), description({"host": "host-1", "host.name": "vm", "host.id": "m"})]
    spans = [
        *(span(WEB, number, zero_ns, cpu=10) for number in range(6)),
        *(span(WEB, number, zero_ns, reason="thread_hop") for number in (6, 7)),
        *(span(STRAY, number, zero_ns, parent="gone") for number in (8, 9)),
        span(CRON, 10, zero_ns, cpu=20),
        span(WEB, 60, zero_ns, cpu=10),  # in the next window
    ]
    correlator.append(Batch(resources=[*known, WEB, STRAY, CRON], spans=spans))
    found = covered(correlator, zero_ns)
    assert found.reason is None
    assert found.requests == 11
    cron, web = found.services
    assert (cron.service, cron.requests, cron.spans, cron.on_machine) == ("cron", 1, 1, 1)
    assert (cron.container.of, cron.container.share) == (0, None)
    assert [(way.what, way.spans) for way in cron.host.methods] == [("layerline.boot_id", 1)]

    assert (web.service, web.requests, web.spans, web.on_machine, web.orphans) == ("web", 10, 10, 0, 2)
    assert (web.container.spans, web.container.of, web.container.share) == (8, 10, 0.8)
    assert [(way.what, way.spans, way.confidence) for way in web.container.methods] == [("container.id", 8, 1.0)]
    (why,) = web.container.missing
    assert why.spans == 2
    assert why.what.startswith("container.id “2” is not the id of a container")
    assert (web.host.spans, web.host.share) == (8, 0.8)
    assert [(why.what, why.spans) for why in web.host.missing] == [("nobody describes machine somewhere", 2)]
    assert (web.account.spans, web.account.share) == (6, 0.6)
    assert {(why.what, why.spans) for why in web.account.missing} == {
        ("thread_hop", 2),
        ("not sent by layerline run", 2),
    }


def test_a_request_whose_two_halves_share_its_id_is_counted_once(correlator: Correlator) -> None:
    """A sidecar sends the caller's and the server's span under one id, at one moment, from one resource."""
    zero_ns = a_while_ago(120)
    handler = span(WEB, 0, zero_ns, parent="gone")
    correlator.append(Batch(resources=[WEB], spans=[handler, handler._replace(kind=CLIENT)]))
    found = covered(correlator, zero_ns)
    (web,) = found.services
    assert (found.requests, web.requests, web.orphans, web.spans) == (1, 1, 1, 2)


def test_all_that_was_not_tied_is_counted(correlator: Correlator) -> None:
    """Beyond the most frequent reasons there is one line for the rest, so that tied and not tied are all spans."""
    zero_ns = a_while_ago(120)
    strays = [resource({"service.name": "web", "host.name": f"box-{number}"}) for number in range(8)]
    correlator.append(
        Batch(resources=strays, spans=[span(owner, number, zero_ns) for number, owner in enumerate(strays)])
    )
    (web,) = covered(correlator, zero_ns).services
    for joined in (web.container, web.host):
        assert joined.spans + sum(one.spans for one in joined.missing) == joined.of == 8
        assert joined.missing[-1].what == "3 other reasons"


def test_one_service_can_be_asked_for(correlator: Correlator) -> None:
    """With a service only its spans, requests and blind causes are told; an unknown one says why it is empty."""
    zero_ns = a_while_ago(120)
    correlator.append(Batch(resources=[WEB, CRON], spans=[span(WEB, 0, zero_ns), span(CRON, 1, zero_ns, cpu=20)]))
    found = covered(correlator, zero_ns, "cron")
    assert [one.service for one in found.services] == ["cron"]
    assert found.requests == 1
    assert {service for one in found.blind for service in one.services} == {"cron"}
    assert "'nobody'" in (covered(correlator, zero_ns, "nobody").reason or "")


def test_an_empty_window_says_so(correlator: Correlator) -> None:
    """Nothing received is no share of 0 %, and every layer says what to start."""
    found = covered(correlator, a_while_ago(120))
    assert found.reason == "neither spans nor readings were received in this window"
    assert [(one.layer, one.readings, one.interval_ns) for one in found.layers] == [
        ("app", 0, None), ("container", 0, None), ("network", 0, None), ("host", 0, None),
    ]  # fmt: skip
    assert all(one.enable for one in found.layers)
    assert "layerline agent" in (found.containers.reason or "")


def test_the_beat_of_readings_and_its_gaps(correlator: Correlator) -> None:
    """Each second but for 12 s in between is a beat of 1 s with one gap; a second late is none."""
    zero_ns = a_while_ago(120)
    seconds = [*range(20), *range(31, 60)]
    memory = {
        "signal": "container.memory.usage",
        "container": "web-1",
        "at": [n * 1000 for n in seconds],
        "values": [1] * 49,
    }
    late = [0, 1000, 2000, 4000, 5000, *range(6000, 60_000, 1000)]
    busy = {"signal": "system.cpu.logical.count", "host": "host-1", "at": late, "values": [1] * len(late)}
    # Sent when it changes: no beat, though it has the most points.
    stall = {
        "signal": "container.cpu.time",
        "container": "web-1",
        "at": list(range(0, 10_000, 100)),
        "values": list(range(100)),
    }
    correlator.append(batch([], [series_rows(drawn, zero_ns) for drawn in (memory, busy, stall)]))
    layers = {one.layer: one for one in covered(correlator, zero_ns).layers}
    container = layers["container"]
    assert (container.entities, container.readings, container.interval_ns) == (1, 149, SECOND)
    assert (container.gaps, container.longest_gap_ns) == (1, 12 * SECOND)
    assert container.longest_gap_at is not None
    assert container.longest_gap_at.name == "web-1"
    assert (layers["host"].gaps, layers["host"].longest_gap_ns, layers["host"].interval_ns) == (0, 2 * SECOND, SECOND)
    assert layers["network"].reason is not None


def test_a_machine_that_fell_silent_is_a_gap(correlator: Correlator) -> None:
    """Readings of the machine that stop before the window ends are missing until then; a container may have ended."""
    zero_ns = a_while_ago(120)
    series = [
        series_rows({"signal": signal, "at": [n * 1000 for n in range(30)], "values": [1] * 30} | entity, zero_ns)
        for signal, entity in (
            ("system.cpu.logical.count", {"host": "host-1"}),
            ("container.memory.usage", {"container": "web-1"}),
        )
    ]
    correlator.append(batch([], series))
    layers = {one.layer: one for one in covered(correlator, zero_ns).layers}
    assert (layers["host"].gaps, layers["host"].longest_gap_ns) == (1, 31 * SECOND)
    assert (layers["container"].gaps, layers["container"].longest_gap_ns) == (0, SECOND)


def test_readings_go_on_under_a_description_that_changed(correlator: Correlator) -> None:
    """A renamed container is one entity with one beat, not two with a gap each."""
    zero_ns = a_while_ago(120)
    rows: list[tuple[ResourceRow, SeriesRow, list[PointRow]]] = []
    for name, first in (("before", 0), ("after", 30)):
        owner = description({"container": "web-1", "container.name": name})
        key = series_key(owner.resource, "container.memory.usage", {})
        row = SeriesRow(key, owner.resource, "container.memory.usage", "By", "gauge", {})
        rows.append((owner, row, [PointRow(key, 0, zero_ns + n * SECOND, 1.0) for n in range(first, first + 30)]))
    correlator.append(batch([], rows))
    container = next(one for one in covered(correlator, zero_ns).layers if one.layer == "container")
    assert (container.entities, container.gaps, container.longest_gap_ns) == (1, 0, SECOND)


def life(name: str, start_ns: int | None, end_ns: int, **more: str) -> tuple[ResourceRow, list[EventRow]]:
    owner = description({"container": name} | more)
    told = [(start_ns, "container.start"), (end_ns, "container.die")]
    return owner, [EventRow(owner.resource, time_ns, what, "", {}) for time_ns, what in told if time_ns is not None]


def test_containers_that_lived_unseen_are_counted_and_named(correlator: Correlator) -> None:
    """Of four that ended one was read while it lived, one only in its first life, and two never: three lives unseen."""
    zero_ns = a_while_ago(120)
    lives = [
        life("read", zero_ns + SECOND, zero_ns + 5 * SECOND),
        life("quick", zero_ns + 10 * SECOND, zero_ns + 10 * SECOND + 300 * MS),
        life("first", zero_ns + 20 * SECOND, zero_ns + 25 * SECOND),
        life("first", zero_ns + 30 * SECOND, zero_ns + 30 * SECOND + 400 * MS),
        life("older", None, zero_ns + 40 * SECOND),
        life("earlier", zero_ns - 9 * SECOND, zero_ns - 5 * SECOND),
        life("still", zero_ns + 50 * SECOND, zero_ns + 70 * SECOND),
    ]
    series = [
        series_rows({"signal": "container.memory.usage", "container": name, "at": [at], "values": [1]}, zero_ns)
        for name, at in (("read", 2000), ("first", 22_000), ("quick", 11_000))  # the last came after it had ended
    ]
    rows = batch([], series)
    correlator.append(
        Batch(
            resources=[*rows.resources, *(owner for owner, _ in lives)],
            series=rows.series,
            points=rows.points,
            events=[event for _, events in lives for event in events],
        )
    )
    found = covered(correlator, zero_ns).containers
    assert (found.ended, found.unseen, found.reason) == (5, 3, None)
    assert [one.name for one in found.named] == ["quick", "first", "older"]
    assert found.named[2].started is None
    assert found.named[0].started is not None


def test_blind_causes_name_the_one_thing_to_enable(correlator: Correlator) -> None:
    """A cause that needs the agent is blind in every request without one, with its reason, share and what to start."""
    zero_ns = a_while_ago(120)
    correlator.append(
        Batch(resources=[WEB], spans=[span(WEB, n, zero_ns, cpu=5, wait=10, switches=1) for n in range(4)])
    )
    blind = {one.cause: one for one in covered(correlator, zero_ns).blind}
    disk = blind["host.io_saturated"]
    assert (disk.requests, disk.share, disk.services, disk.layer) == (4, 1.0, ["web"], "host")
    assert "busy time of the disks" in disk.reason
    assert disk.enable == "run `layerline agent` on the machine"  # nobody tells its name


def machine(name: str) -> ResourceRow:
    """What somebody says of a machine without reading it."""
    return description({"host": name, "host.name": f"{name}.example", "host.id": f"{name}-id"})


def test_what_to_enable_names_the_machine(correlator: Correlator) -> None:
    """Where machines have names, the advice to run the agent says on which of them, in every place that gives it."""
    zero_ns = a_while_ago(120)
    spans = [span(WEB, n, zero_ns, cpu=5, wait=10, switches=1) for n in range(4)]
    correlator.append(Batch(resources=[machine("host-1"), WEB], spans=spans))
    found = covered(correlator, zero_ns)
    advice = "run `layerline agent` on machine host-1.example"
    assert {one.cause: one.enable for one in found.blind}["host.io_saturated"] == advice
    assert {one.layer: one.enable for one in found.layers if one.layer != "app"} == dict.fromkeys(
        ("container", "network", "host"), advice
    )


def test_who_is_not_in_python_is_not_told_to_use_the_wrapper(correlator: Correlator) -> None:
    """`layerline run` starts Python: of a service in Java the agent tells what it can, and nothing else is advised."""
    zero_ns = a_while_ago(120)
    java, python = (
        resource({"service.name": language, "telemetry.sdk.language": language, "layerline.boot_id": "host-1"})
        for language in ("java", "python")
    )
    spans = [span(owner, 4 * at + n, zero_ns) for at, owner in enumerate((java, python)) for n in range(4)]
    correlator.append(Batch(resources=[machine("host-1"), java, python], spans=spans))
    of_java = {one.cause: one.enable for one in covered(correlator, zero_ns, "java").blind}
    assert not [advice for advice in of_java.values() if "start the service" in advice], of_java
    assert of_java["host.cpu_contended"] == "run `layerline agent` on machine host-1.example"
    other = "measure it by other means (`layerline run` is for Python, its SDK says java)"
    assert of_java["app.gil_waited"] == other
    for both in (covered(correlator, zero_ns, "python"), covered(correlator, zero_ns)):  # somebody can be helped
        advice = {one.cause: one.enable for one in both.blind}["app.gil_waited"]
        assert advice == "start the service with `layerline run -- CMD`"
    verdict = correlator.verdict(spans[0].trace_id)
    assert verdict is not None
    assert verdict.blind[0].enable != other, "what can be measured is said first"


def test_several_machines_are_named_as_in_a_sentence(correlator: Correlator) -> None:
    """The names are sorted, and none is behind an `and` of its own."""
    zero_ns = a_while_ago(120)
    hosts = ("c", "a", "b")
    owners = [resource({"service.name": f"on-{host}", "layerline.boot_id": host}) for host in hosts]
    correlator.append(
        Batch(resources=[*map(machine, hosts), *owners], spans=[span(one, n, zero_ns) for n, one in enumerate(owners)])
    )
    advice = {one.cause: one.enable for one in covered(correlator, zero_ns).blind}["host.io_saturated"]
    assert advice == "run `layerline agent` on machines a.example, b.example and c.example"


def test_no_reason_says_the_same_twice(correlator: Correlator) -> None:
    """Two facts may have the same words (the agent and the wrapper read the same file): the reason has them once."""
    zero_ns = a_while_ago(120)
    owner = resource({"service.name": "cart", "container.id": container_id("cart-1")})
    correlator.append(Batch(resources=[owner], spans=[span(owner, n, zero_ns) for n in range(4)]))
    for one in covered(correlator, zero_ns).blind:
        for reason in one.reason.split("; "):
            facts = reason.partition(": ")[2].removesuffix(" were not measured").split(" and ")
            assert len(facts) == len(set(facts)), reason


def test_only_what_is_missing_is_to_be_enabled(correlator: Correlator) -> None:
    """Where the agent reads the machine nobody is told to run it; where the wrapper runs, nobody is told to use it."""
    zero_ns = a_while_ago(120)
    foreign = resource({"service.name": "cart", "container.id": container_id("cart-1"), "layerline.boot_id": "host-2"})
    read = [
        series_rows({"signal": signal, **of, "host": "host-2", "at": [-1000, 20_000], "values": [0, 5]}, zero_ns)
        for signal, of in (("container.cpu.time", {"container": "cart-1"}), ("system.disk.io_time", {}))
    ]
    correlator.append(
        together(
            [
                Batch(
                    resources=[machine("host-1"), machine("host-2"), WEB, foreign],
                    spans=[
                        *(span(WEB, n, zero_ns, cpu=5, faults=3, blocks_read=80, switches=1) for n in range(4)),
                        *(span(foreign, 10 + n, zero_ns) for n in range(4)),
                    ],
                ),
                batch([], read),
            ]
        )
    )
    ours = {one.cause: one.enable for one in covered(correlator, zero_ns, "web").blind}
    theirs = {one.cause: one.enable for one in covered(correlator, zero_ns, "cart").blind}
    assert ours["host.cpu_stolen"] == "run `layerline agent` on machine host-1.example"
    assert all("layerline agent" not in advice or "ask" in advice for advice in theirs.values()), theirs
    assert theirs["app.cpu_crowded"] == "start the service with `layerline run -- CMD`"


@pytest.mark.parametrize(
    ("sampler", "threshold", "sampled", "kept"),
    [
        ("AlwaysOnSampler", None, False, None),
        ("ParentBased{root:AlwaysOnSampler,remoteParentSampled:AlwaysOnSampler}", None, False, None),
        ("ParentBased{root:TraceIdRatioBased{0.1},remoteParentSampled:AlwaysOnSampler}", None, True, None),
        (None, "c", True, 0.25),
        (None, "0", False, 1.0),
        ("AlwaysOnSampler", "8", True, 0.5),
        (None, None, None, None),
    ],
)
def test_a_sampled_service_is_named(
    correlator: Correlator, sampler: str | None, threshold: str | None, sampled: bool | None, kept: float | None
) -> None:
    """The trace state's threshold tells, then the sampler that the wrapper names; without either nothing is claimed."""
    zero_ns = a_while_ago(120)
    owner = resource(WEB.attributes | ({"layerline.sampler": sampler} if sampler else {}))
    attributes = {"layerline.sampling.threshold": threshold} if threshold else {}
    correlator.append(Batch(resources=[owner], spans=[span(owner, 0, zero_ns, attributes=attributes)]))
    (web,) = covered(correlator, zero_ns).services
    assert (web.sampling.sampled, web.sampling.kept_ratio) == (sampled, kept)
    assert web.sampling.sign


def test_what_leaves_no_spans_is_named_with_what_to_install(correlator: Correlator) -> None:
    """Each library that our wrapper reports comes once, whatever the number of processes, with the exact command."""
    zero_ns = a_while_ago(120)
    said = {
        "layerline.uninstrumented": "aiohttp opentelemetry-instrumentation-aiohttp-client==0.66b1, "
        "vertexai opentelemetry-instrumentation-vertexai>=2.0b0, rq",
        "layerline.instrumentation.failed": "django: KeyError",
    }
    owners = [resource(WEB.attributes | said | {"process.pid": pid}) for pid in ("1", "2")]
    for number, owner in enumerate(owners):
        correlator.append(Batch(resources=[owner], spans=[span(owner, number, zero_ns)]))
    found = covered(correlator, zero_ns).services[0].uninstrumented
    assert [(one.library, one.package) for one in found] == [
        ("aiohttp", "opentelemetry-instrumentation-aiohttp-client==0.66b1"),
        ("rq", None),
        ("vertexai", "opentelemetry-instrumentation-vertexai>=2.0b0"),
        ("django", None),
    ]
    assert "`layerline docs apps`" in found[1].enable
    assert found[2].enable.startswith("pip install 'opentelemetry-instrumentation-vertexai>=2.0b0', or ")
    assert "KeyError" in found[3].reason


def test_what_explodes_is_named_with_the_attribute_that_does_it(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric of too many series, and a service of too many resources, are named; one at the bound is not."""
    monkeypatch.setattr(coverage_module, "MOST_SERIES", 10)
    zero_ns = a_while_ago(120)
    owner = description({"container": "web-1"})
    rows = [
        SeriesRow(series_key(owner.resource, name, tags), owner.resource, name, "1", "gauge", tags)
        for name, number in (("cart.items", 11), ("cart.sum", 10))
        for tags in ({"user": str(n), "shop": "one"} for n in range(number))
    ]
    points = [PointRow(row.series, 0, zero_ns + SECOND, 1.0) for row in rows]
    senders = [resource({"service.name": "job", "service.instance.id": str(n)}) for n in range(12)]
    correlator.append(Batch(resources=[owner, *senders], series=rows, points=points))
    found = [
        (one.what, one.name, one.number, one.attribute, one.distinct_values)
        for one in covered(correlator, zero_ns).cardinality
    ]
    assert found == [("resources", "job", 12, "service.instance.id", 12), ("series", "cart.items", 11, "user", 11)]


def test_its_json_says_from(correlator: Correlator) -> None:
    """The window stands in the answer as `from` and `to`."""
    assert list(plain(covered(correlator, a_while_ago(120))))[:2] == ["from", "to"]


def test_what_agents_lost_is_told_where_it_is_missing(correlator: Correlator) -> None:
    """Readings that an agent dropped are named in windows that they belong to, whenever it told of them."""
    zero_ns = a_while_ago(120)
    host = description({"host": "host-1", "host.name": "vm", "host.id": "m"})

    def dropped(points: str, first_s: int, last_s: int) -> EventRow:
        times = (str(zero_ns + first_s * SECOND), str(zero_ns + last_s * SECOND))
        names = ("points", "from_ns", "to_ns", "reason")
        told = dict(zip((f"layerline.agent.dropped.{name}" for name in names), (points, *times, "away"), strict=True))
        return EventRow(host.resource, zero_ns + 90 * SECOND, "layerline.agent.dropped", f"{points} points", told)

    before, over, after = dropped("3", -20, -10), dropped("400", -5, 5), dropped("5", 70, 80)
    correlator.append(Batch(resources=[host], events=[before, over, after, dropped("many", 1, 2), dropped("9", 9, 3)]))
    (found,) = covered(correlator, zero_ns).dropped
    assert (found.host, found.points, found.reason) == ("vm", 400, "away")
    assert found.from_ < rfc3339(zero_ns) < found.to
    assert plain(found)["from"] == found.from_


def test_what_nobody_could_see_is_said_for_the_time_that_it_belongs_to(correlator: Correlator) -> None:
    """An engine that did not answer, an end that nobody saw and a clock that was set are in the coverage of windows
    that they overlap, and in no others; what makes no sense is left out."""
    zero_ns = a_while_ago(240)
    host = description({"host": "host-1", "host.name": "vm", "host.id": "m"})
    web = description({"container": "web-1"})

    def event(owner: ResourceRow, name: str, first_s: int, last_s: int, **more: str) -> EventRow:
        times = {"from_ns": str(zero_ns + first_s * SECOND), "to_ns": str(zero_ns + last_s * SECOND)}
        told = {f"layerline.agent.{key}": value for key, value in {**times, **more}.items()}
        return EventRow(owner.resource, zero_ns + last_s * SECOND, name, name, told)

    away, gone, stepped = "layerline.agent.engine_away", "container.gone", "layerline.agent.clock_stepped"
    events = [
        event(host, away, 5, 25), event(host, away, 70, 80), event(host, away, 30, 20), event(web, gone, 10, 15),
        event(host, stepped, 40, 85, clock_step_ns=str(45 * SECOND)), event(host, stepped, 41, 42, clock_step_ns="x"),
    ]  # fmt: skip
    correlator.append(Batch(resources=[host, web], events=events))
    found = covered(correlator, zero_ns)
    assert (found.containers.ended, found.containers.ended_unknown) == (0, 1)
    assert found.containers.reason is not None
    assert f"engine of vm did not answer between {rfc3339(zero_ns + 5 * SECOND)}" in found.containers.reason
    assert [(step.host, step.step_ns) for step in found.clock_steps] == [("vm", 45 * SECOND)]
    later = correlator.coverage(zero_ns + 90 * SECOND, zero_ns + 150 * SECOND)
    assert (later.containers.ended_unknown, later.containers.reason, later.clock_steps) == (0, None, [])


def reported(host: str, signal: str, times_ns: list[int], value: float = 1, version: str | None = None) -> Batch:
    """What an agent says about itself."""
    owner = resource({"layerline.boot_id": host, "host.name": host, "os.type": "linux"})
    attributes = {} if version is None else {"layerline.version": version}
    key = series_key(owner.resource, signal, attributes)
    row = SeriesRow(key, owner.resource, signal, "1", "gauge", attributes)
    return Batch(resources=[owner], series=[row], points=[PointRow(key, 0, at_ns, value) for at_ns in times_ns])


def test_an_agent_that_falls_silent_and_clocks_that_disagree(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 30 s an agent is silent, not before three of its intervals; a clock is wrong only where that is sure."""
    monkeypatch.setattr(coverage_module, "own_version", lambda: "0.4.0")
    zero_ns = a_while_ago(120)
    until = [zero_ns + second * SECOND for second in range(60)]
    batches = [
        reported("quick", "layerline.agent.running", until, version="0.4.0"),
        reported("gone", "layerline.agent.running", until[:34], version="0.3.9"),
        reported("slow", "layerline.agent.dropped_points", until[::12], value=0),
        reported("old", "layerline.agent.running", until, version="0.2.0"),
        reported("quick", "layerline.agent.clock_offset", until, value=-90e6),
        reported("gone", "layerline.agent.clock_offset", until[:34], value=250e6),
        reported("gone", "layerline.agent.clock_uncertainty", until[:34], value=2e6),
    ]
    for sent in batches:
        correlator.append(sent)
    found = covered(correlator, zero_ns)
    agents = {one.host: one for one in found.agents}
    assert found.agents[0].host == "gone"
    assert {host: one.silent_ns for host, one in agents.items()} == {
        "gone": 27 * SECOND, "slow": None, "quick": None, "old": None,
    }  # fmt: skip
    assert (agents["gone"].clock_ahead_ns, agents["gone"].clock_uncertain_ns) == (250_000_000, 2_000_000)
    assert {host: one.clock_wrong for host, one in agents.items()} == {
        "gone": True, "slow": False, "quick": False, "old": False,
    }  # fmt: skip
    assert {host: one.version for host, one in agents.items()}["slow"] is None
    assert found.version == "0.4.0"
    assert [(one.name, one.version, one.supported) for one in found.version_skew] == [
        ("gone", "0.3.9", True),
        ("old", "0.2.0", False),
    ]


def test_a_wrapper_of_another_version_is_named(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the version that it says in its resource; other SDKs say none."""
    monkeypatch.setattr(coverage_module, "own_version", lambda: "1.0.0")
    zero_ns = a_while_ago(120)
    shop = resource({"service.name": "shop", "layerline.version": "0.9.1"})
    correlator.append(Batch(resources=[shop, CRON], spans=[span(shop, 1, zero_ns), span(CRON, 2, zero_ns)]))
    skew = covered(correlator, zero_ns).version_skew
    assert [(one.sender, one.name, one.supported) for one in skew] == [("wrapper", "shop", False)]


@pytest.mark.parametrize(
    ("version", "own", "supported"),
    [
        ("0.2.0", "0.2.9.dev1+gabc", True), ("0.3.0", "0.2.0", True), ("0.4.0", "0.2.0", False),
        ("1.0.0", "0.9.0", False), ("nonsense", "0.2.0", False), ("0+unknown", "0.2.0", False),
    ],
)  # fmt: skip
def test_one_minor_version_apart_works(version: str, own: str, supported: bool) -> None:
    """The same major version, and at most one minor one between sender and server."""
    assert coverage_module.near(version, own) is supported
