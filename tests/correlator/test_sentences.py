"""Each sentence about a part appears only with the evidence that it needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from layerline.aliases import AGENT, CADVISOR, DOCKER_STATS, HOSTMETRICS, KUBELETSTATS, NODE_EXPORTER
from layerline_correlator.entity import Entity
from layerline_correlator.ledger.causes import all_causes
from layerline_correlator.verdict.judge import Ledger, LedgerPart, Unseen, judge, to_enable
from layerline_correlator.verdict.model import Part
from layerline_correlator.verdict.sentences import MEASURED, PERHAPS, SENTENCES, SURE, Seen, sentence

MS = 1_000_000
WROTE = "its container used 208 ms of CPU time in span “GET /cart”"
EVIDENCE = {MEASURED: (False, 208), SURE: (True, 120), PERHAPS: (True, 0)}
#: Words that claim something, and the evidence under which they may be said of any cause.
CLAIMS = {
    "nobody else worked there": set[str](),
    "Profile this operation": {MEASURED},
    "not all of it": {SURE},
    "possibly, ": {PERHAPS},
    "too far apart": {PERHAPS},
    "apart, too far": {PERHAPS},
    "See first whose": {PERHAPS},
}


def shown(cause: str, evidence: str, wrote: str = WROTE) -> Part:
    """The part of a verdict over one request with 208 ms of this cause."""
    inferred, low_ms = EVIDENCE[evidence]
    part = LedgerPart(cause, "web", "container", "c1", 208 * MS, low_ms * MS, 300 * MS, inferred, because=wrote)
    ledger = Ledger("a" * 32, "b" * 16, "web", "GET /cart", 0, 300 * MS, 92 * MS, (part,))
    return judge([ledger], [None], lambda kind, identity: Entity(kind, identity, identity)).parts[0]


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("cause", [cause.name for cause in all_causes()])
def test_no_cause_claims_more_than_its_evidence(cause: str, evidence: str) -> None:
    """Whatever the cause: what its part says and advises holds no claim that needs better evidence."""
    part = shown(cause, evidence)
    for claim, may_be_said_with in CLAIMS.items():
        if claim in f"{part.because} {part.try_}":
            assert evidence in may_be_said_with, f"{cause}, {evidence}: {part.because} / {part.try_}"


def test_every_sentence_is_in_the_list() -> None:
    """Each kind of evidence has one sentence for all causes; those of a cause of its own name one that there is."""
    assert [one.evidence for one in SENTENCES if one.cause is None] == [MEASURED, SURE, PERHAPS]
    assert {one.cause for one in SENTENCES} - {None} <= {cause.name for cause in all_causes()}


@pytest.mark.parametrize(
    ("cause", "evidence", "said"),
    [
        ("app.cpu_busy", MEASURED, WROTE),
        ("app.cpu_busy", SURE, f"{WROTE}; not all of it can have been used by something else"),
        (
            "app.cpu_busy", PERHAPS,
            "its container used CPU time while span “GET /cart” was open; its readings are too far apart to say whose"
            " it was",
        ),
        ("container.cpu_throttled", SURE, WROTE),
        (
            "container.cpu_throttled", PERHAPS,
            f"possibly, as its readings only say what happened in a whole interval: {WROTE}",
        ),
    ],
)  # fmt: skip
def test_sentences(cause: str, evidence: str, said: str) -> None:
    """With a lower bound of zero nobody is said to have used the CPU, and an inference is said to be one."""
    assert shown(cause, evidence).because == said


#: Whose readings a part may stand on, and whether its container is one of Kubernetes.
SOURCES = [("", False), *((source, False) for source in (AGENT, DOCKER_STATS, CADVISOR)), (CADVISOR, True)]
SOURCES += [(KUBELETSTATS, True), (NODE_EXPORTER, False), (HOSTMETRICS, False)]
#: Words of one source or place, and when they may be said.
OF_SOURCES: dict[str, Callable[[str, bool], bool]] = {
    "docker_stats": lambda source, _: source == DOCKER_STATS,
    "cAdvisor": lambda source, _: source == CADVISOR,
    "kubeletstats": lambda source, _: source == KUBELETSTATS,
    "node_exporter": lambda source, _: source == NODE_EXPORTER,
    "hostmetrics": lambda source, _: source == HOSTMETRICS,
    "layerline agent": lambda source, _: source == AGENT,
    "`docker ": lambda _, in_a_pod: not in_a_pod,
    "kubectl": lambda _, in_a_pod: in_a_pod,
    "its pod": lambda _, in_a_pod: in_a_pod,
}


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize(("source", "in_a_pod"), SOURCES)
def test_no_sentence_names_another_source_than_the_readings_have(evidence: str, source: str, in_a_pod: bool) -> None:
    """Whatever the cause and its evidence: words of one collector, of Docker or of Kubernetes only where they fit."""
    inferred, low_ms = EVIDENCE[evidence]
    for cause in all_causes():
        part = LedgerPart(
            *(cause.name, "web", "container", "c1", 208 * MS, low_ms * MS, 300 * MS, inferred), because=WROTE,
            every_ns=60_000 * MS, source=source if inferred else "", in_a_pod=in_a_pod,
        )  # fmt: skip
        ledger = Ledger("a" * 32, "b" * 16, "web", "GET /cart", 0, 300 * MS, 92 * MS, (part,))
        shown = judge([ledger], [None], lambda kind, identity: Entity(kind, identity, identity)).parts[0]
        said = f"{shown.because} {shown.try_}"
        for words, may_be_said in OF_SOURCES.items():
            assert words not in said or may_be_said(source, in_a_pod), f"{cause.name}, {evidence}: {said}"
        if inferred and source and evidence == PERHAPS:
            assert source in said, cause.name


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ((DOCKER_STATS,), [DOCKER_STATS]),
        ((CADVISOR,), [CADVISOR]),
        ((KUBELETSTATS,), [KUBELETSTATS]),
        ((), [DOCKER_STATS, CADVISOR, KUBELETSTATS]),
    ],
)
def test_what_to_enable_is_said_of_the_collector_that_is_there(sources: tuple[str, ...], names: list[str]) -> None:
    """Where cAdvisor reads the containers, nobody is sent to docker_stats; where it is not known, each is named."""
    unseen = Unseen("container.cpu_throttled", "not measured", foreign=True, sources=sources)
    said = to_enable("container.cpu_throttled", [unseen], lambda kind, identity: Entity(kind, identity, identity))
    assert all(name in said for name in names)
    assert all(name in names or name not in said for name in (DOCKER_STATS, CADVISOR, KUBELETSTATS))


@pytest.mark.parametrize(
    ("every_ns", "said"), [(60_000 * MS, "60 s"), (14_993 * MS, "15 s"), (1_000 * MS, "1 s"), (1_500 * MS, "1.5 s")]
)
def test_how_far_readings_are_apart_is_said(every_ns: int, said: str) -> None:
    """Where it is known how often a container is read, what is only perhaps so says it."""
    seen = Seen(WROTE, 0, inferred=True, every_ns=every_ns)
    used = sentence("app.cpu_busy", seen).because(seen)
    assert used.endswith(f"its readings are {said} apart, too far to say whose it was")
    assert f"in a whole interval of {said}: {WROTE}" in sentence("container.cpu_throttled", seen).because(seen)


def test_what_earlier_versions_wrote_is_not_repeated() -> None:
    """A store of an earlier version holds the claim that nobody else worked there: it is not shown."""
    for evidence in (SURE, PERHAPS):
        assert "nobody else" not in shown("app.cpu_busy", evidence, f"{WROTE}, while nobody else worked there").because


def test_nothing_is_possibly_nothing() -> None:
    """Where a cause wrote nothing down, nothing is said."""
    assert shown("container.memory_stalled", PERHAPS, "").because == ""
