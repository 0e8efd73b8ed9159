"""What changed: all requests of a window against those of the time before. Plain arithmetic, no clock and no database.

What is lost is added up by whom: a service with its containers, its processes and the names that others call it under;
a host; a dependency. Somebody *grew* when its share of a mean request did, by more than chance does to the time before,
and not because of some moments. Where nobody grew, nobody is named. Where something else speaks for it, too (calls to
it that got slower by themselves, ``edges.py``; a limit that was reached), less of a change is enough; and that says who
would mend what no cause explains.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from layerline_correlator.entity import Entity, Naming
from layerline_correlator.ledger.causes import by_name
from layerline_correlator.verdict.edges import EdgeChange
from layerline_correlator.verdict.judge import CULPRIT_SHARE
from layerline_correlator.verdict.model import CauseChange, Change, Culprit, Part, Standing, Verdict

#: Fewer requests than this, before and in the window, cannot be compared.
ENOUGH_BEFORE, ENOUGH = 20, 5
#: A change counts from this size on, as a share of the mean request before, and from so many nanoseconds on.
LEAST_SHARE, LEAST_NS = 0.05, 1_000_000
#: And from so many on, unless it is such a share: the machine's caches and scheduler move quick requests by as much.
SMALL_NS, SMALL_SHARE = 10_000_000, 0.5
#: And when it is so many times what chance does (a standard deviation of the difference). Where somebody grew, others
#: are named beside from so many times on; what is so many times chance is not said to be as it was, either, and that is
#: enough where something else speaks for it.
TIMES, TIMES_TOO, TIMES_OPEN = 5.0, 3.0, 2.0
#: A limit speaks for somebody, and says who would mend it, when such a share of what it grew by was lost to it.
LIMITS_SHARE = 1 / 3
#: Who would mend it, where readings say that a limit was reached.
LIMITS = ("container", "host")
#: Without the three hardest stretches of time, a change must still have these shares of the least and of those times.
LEAST_WITHOUT, TIMES_WITHOUT = 0.25, 0.6
#: The spread between blocks is known from so many on: from two steps.
BLOCKS = 3
#: An entity holds what its service lost when it has at least this share of it.
ONE_OF_THEM = 2 / 3
#: What is always there is worth a word from this share of the mean request on; so many are named.
STANDS, STANDING = 0.1, 5
UNEXPLAINED = "unexplained"
OWNER = "owner"

CHANGED, NOTHING, QUICKER, TOO_FEW, NO_BEFORE = "changed", "nothing", "quicker", "too_few", "no_before"


class Who(NamedTuple):
    """To whom losses are added up: ``owner`` and a service, or the type and id of an entity."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class Loss:
    """What one cause took in one entity, over all requests: sums, in nanoseconds."""

    cause: str
    entity_type: str
    entity_id: str
    now_ns: float
    low_ns: float
    before_ns: float
    before_high_ns: float


@dataclass(frozen=True, slots=True)
class Lost:
    """What was lost to somebody, over all requests, and how much chance moves it. Sums, in nanoseconds.

    ``variance`` is that of one request, by what neighbouring blocks of the time before differ (of ``blocks`` blocks);
    ``squares`` are of the requests before it, None where they were read as summed up.
    """

    now_ns: float
    before_ns: float
    blocks: int = 0
    variance: float = 0.0
    squares: float | None = None
    halves: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    """Of the first and the second half of the time before: what was lost, and by how many requests."""
    hardest: tuple[float, float] = (0.0, 0.0)
    """Of the three stretches of ten seconds of the window in which most was lost: how much, and by how many requests;
    where these are more than a third of the window's, of the three requests that lost most."""
    examples: tuple[tuple[str, str], ...] = ()
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """One operation in both times. ``requests`` are those for which the ledgers stand; a mean of them is worth as much
    as one of ``worth`` requests that each have a ledger."""

    requests: float
    worth: float
    requests_before: float
    worth_before: float
    total: Lost
    lost: Mapping[Who, Lost] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    edges: tuple[EdgeChange, ...] = ()
    """Calls between services that are slower than in the time before, whoever's requests made them."""

    def change_ns(self, lost: Lost) -> float:
        """How much more of a mean request it takes now."""
        return self.mean(lost) - self.mean_before(lost)

    def mean(self, lost: Lost) -> float:
        """Of a mean request of the window."""
        return lost.now_ns / self.requests if self.requests else 0.0

    def mean_before(self, lost: Lost) -> float:
        """Of a mean request before it."""
        return lost.before_ns / self.requests_before if self.requests_before else 0.0

    @property
    def least_ns(self) -> float:
        """The smallest change that counts."""
        before_ns = self.mean_before(self.total)
        return max(LEAST_NS, LEAST_SHARE * before_ns, min(SMALL_NS, SMALL_SHARE * before_ns))


def chance_ns(compared: Compared, lost: Lost, worth: float) -> float:
    """The standard deviation of the difference between the time before and so many requests, were nothing to change."""
    mean_ns = compared.mean_before(lost)
    by_request = 0.0
    if lost.squares is not None and compared.requests_before:
        by_request = lost.squares / compared.requests_before - mean_ns**2
    by_block = lost.variance if lost.blocks >= BLOCKS else 0.0
    if lost.squares is None and lost.blocks < BLOCKS:  # nothing says how it spreads: as waiting times do
        by_block = compared.mean(lost) ** 2
    variance = max(by_request, by_block, 0.0)
    return math.sqrt(variance * (1 / max(1.0, compared.worth_before) + 1 / max(1.0, worth)))


def _wandered_ns(lost: Lost) -> float:
    """By how much it went down, or half of that by which it went up, between the two halves of the time before."""
    (first_ns, first), (second_ns, second) = lost.halves
    if min(first, second) < ENOUGH_BEFORE / 2:
        return 0.0
    rise_ns = second_ns / second - first_ns / first
    return -rise_ns if rise_ns < 0 else rise_ns / 2


def grew(compared: Compared, lost: Lost, times: float = TIMES) -> bool:
    """Whether it takes more of a request than before: enough, more than by chance, and not for some moments only."""
    change_ns = compared.change_ns(lost)
    if change_ns < max(compared.least_ns, _wandered_ns(lost)):
        return False
    if change_ns < times * chance_ns(compared, lost, compared.worth):
        return False
    hardest_ns, hardest = lost.hardest
    others = compared.requests - hardest
    if others <= 0:
        return False
    without_ns = (lost.now_ns - hardest_ns) / others - compared.mean_before(lost)
    worth = compared.worth * others / compared.requests
    times *= TIMES_WITHOUT
    return without_ns >= max(LEAST_WITHOUT * compared.least_ns, times * chance_ns(compared, lost, worth))


def is_open(compared: Compared, lost: Lost) -> bool:
    """Whether it may have grown: it is not said to be as it was."""
    change_ns = compared.change_ns(lost)
    return change_ns >= max(compared.least_ns, TIMES_OPEN * chance_ns(compared, lost, compared.worth))


def fell(compared: Compared, lost: Lost) -> bool:
    """Whether it takes less of a request than before."""
    change_ns = -compared.change_ns(lost)
    return change_ns >= max(compared.least_ns, TIMES * chance_ns(compared, lost, compared.worth), _wandered_ns(lost))


def edge_of(compared: Compared, who: Who) -> EdgeChange | None:
    """Calls that got slower by themselves and tell that the time passed at this one, or on the way to it; the first."""
    return next((one for one in compared.edges if one.sure and _at(one) == who), None)


def _at(edge: EdgeChange) -> Who | None:
    """Where the time of an edge passed, as losses are added up: the way counts as the callee's."""
    if edge.side == "caller":
        return Who(OWNER, edge.caller)
    if edge.side is None:
        return None
    return Who(OWNER if edge.callee_type == "service" else "service", edge.callee)


def limit_of(compared: Compared, lost: Lost) -> str | None:
    """The layer whose limit, by its readings, was reached and has a large share of what this grew by."""
    change_ns = compared.change_ns(lost)
    amounts: dict[str, float] = defaultdict(float)
    for cause, more_ns in _main(lost.losses, compared).items():
        if cause != UNEXPLAINED and (layer := by_name(cause).layer) in LIMITS:
            amounts[layer] += more_ns
    first = max(amounts, key=lambda one: amounts[one], default=None)
    return first if first is not None and amounts[first] >= max(LIMITS_SHARE * change_ns, LEAST_NS) else None


def _spoken_for(compared: Compared, who: Who, lost: Lost) -> bool:
    """Whether it grew a little, and something else than the requests' duration says that it did."""
    if not grew(compared, lost, TIMES_OPEN):
        return False
    return edge_of(compared, who) is not None or limit_of(compared, lost) is not None


def state_of(compared: Compared | None) -> str:
    """What can be said of an operation: one of the words above."""
    if compared is None or not compared.requests_before:
        return NO_BEFORE
    if compared.worth_before < ENOUGH_BEFORE or compared.worth < ENOUGH:
        return TOO_FEW
    if grown(compared) or grew(compared, compared.total):
        return CHANGED
    return QUICKER if fell(compared, compared.total) else NOTHING


def grown(compared: Compared) -> list[Who]:
    """Who takes more of a request than before, the most first."""
    spoken_for = {who for who, lost in compared.lost.items() if _spoken_for(compared, who, lost)}
    if not spoken_for and not any(grew(compared, lost) for lost in (compared.total, *compared.lost.values())):
        return []
    found = [who for who, lost in compared.lost.items() if who in spoken_for or grew(compared, lost, TIMES_TOO)]
    found.sort(key=lambda who: -compared.change_ns(compared.lost[who]))
    # Where others became quicker by more than these became slower, time has only moved.
    added_ns = sum(compared.change_ns(compared.lost[who]) for who in found)
    if compared.change_ns(compared.total) < -added_ns / 2:
        return []
    return [who for who in found if compared.change_ns(compared.lost[who]) >= CULPRIT_SHARE * added_ns]


def with_change(verdict: Verdict, compared: Compared | None, figures: Change, name: Naming) -> Verdict:
    """The verdict of a window as what changed: who grew are its culprits, and what did not change stands apart.

    ``figures`` has what is counted of both times. Where the two cannot be compared, the verdict stays what the slow
    requests say beside their usual.
    """
    state = state_of(compared)
    if compared is None or state in (NO_BEFORE, TOO_FEW):
        because = (
            "no request of this operation was received in the time before"
            if state == NO_BEFORE
            else "too few requests to compare"
        )
        return replace(verdict, change=replace(figures, state=state, because=because))
    means = {"mean_ns": compared.mean(compared.total), "mean_before_ns": compared.mean_before(compared.total)}
    change = replace(
        figures,
        state=state,
        mean_ns=round(means["mean_ns"]),
        mean_before_ns=round(means["mean_before_ns"]),
        change_ns=round(means["mean_ns"]) - round(means["mean_before_ns"]),
        versions=list(compared.versions),
        because=_because(state),
    )
    blamed = grown(compared) if state == CHANGED else []
    names = {(part.entity.type, part.entity.id): part.entity for part in verdict.parts}

    def named(kind: str, identity: str) -> Entity:
        return names.get((kind, identity)) or name(kind, identity)

    verdict = _with_part_changes(verdict, compared, blamed, named)
    culprits = [_culprit(verdict, compared, who, blamed, named) for who in blamed]
    left_ns = sum(loss.now_ns for lost in compared.lost.values() for loss in lost.losses if loss.cause == UNEXPLAINED)
    left_before_ns = sum(
        loss.before_ns for lost in compared.lost.values() for loss in lost.losses if loss.cause == UNEXPLAINED
    )
    unexplained_before_ns = left_before_ns / compared.requests_before
    return replace(
        verdict,
        ranked_by="change",
        culprits=culprits,
        conclusive=_conclusive(compared, blamed) if state == CHANGED else False,
        suspects=verdict.suspects if state == CHANGED else [],
        change=change,
        standing=_standing(compared, blamed, named),
        unexplained_before_ns=round(unexplained_before_ns),
        unexplained_change_ns=round(left_ns / compared.requests - unexplained_before_ns),
    )


def with_neighbours(verdict: Verdict) -> Verdict:
    """Who grew by time that nothing explains, for the layer host where a neighbour that rose meanwhile is suspected."""
    neighbour = next((one for one in verdict.suspects if one.excess_ns is None and one.cause), None)
    if verdict.ranked_by != "change" or neighbour is None:
        return verdict
    layer = by_name(neighbour.cause or "").layer
    said = f"perhaps its neighbour {neighbour.entity.name}: {neighbour.because}"

    def suspected(culprit: Culprit) -> Culprit:
        if culprit.cause != UNEXPLAINED or culprit.layer != "app":
            return culprit
        return replace(culprit, layer=layer, because="; ".join(filter(None, (culprit.because, said))))

    return replace(verdict, culprits=[suspected(culprit) for culprit in verdict.culprits])


def _because(state: str) -> str:
    return {
        CHANGED: "a mean request takes longer than in the time before, by more than chance does to it",
        QUICKER: "a mean request takes less than in the time before, and nobody takes more of it",
        NOTHING: "nothing changed: a mean request takes what it took in the time before, within what chance does to it",
    }[state]


def _main(losses: Sequence[Loss], compared: Compared) -> dict[str, float]:
    """How much more each cause takes of a mean request, the most first."""
    changes: dict[str, float] = defaultdict(float)
    for loss in losses:
        changes[loss.cause] += loss.now_ns / compared.requests - loss.before_ns / compared.requests_before
    return dict(sorted(changes.items(), key=lambda item: (-item[1], item[0])))


def _entity(who: Who, lost: Lost, cause: str, named: Naming) -> Entity:
    """Who it is, by name: of a service its one container where that lost it, the name that it is called under where the
    cause is about calls."""
    if who.type != OWNER:
        return named(who.type, who.id)
    alike = [loss for loss in lost.losses if loss.cause == cause and loss.now_ns > 0]
    if not alike:
        return Entity("service", who.id, who.id)
    first = max(alike, key=lambda loss: (loss.now_ns, loss.entity_id))
    if first.entity_type == "service":
        return Entity("service", first.entity_id, who.id)
    if first.entity_type == "process":
        return named("process", who.id)
    if first.now_ns >= ONE_OF_THEM * sum(loss.now_ns for loss in alike):
        return named(first.entity_type, first.entity_id)
    several = len({loss.entity_id for loss in alike})
    return Entity("service", who.id, f"{who.id} ({several} containers)")


def _culprit(verdict: Verdict, compared: Compared, who: Who, blamed: Sequence[Who], named: Naming) -> Culprit:
    lost = compared.lost[who]
    changes = _main(lost.losses, compared)
    first = next(iter(changes))
    change_ns = compared.change_ns(lost)
    added_ns = sum(compared.change_ns(compared.lost[one]) for one in blamed)
    whole_ns = max(added_ns, compared.change_ns(compared.total))
    before: dict[str, float] = defaultdict(float)
    for loss in lost.losses:
        before[loss.cause] += loss.before_ns / compared.requests_before
    mine = [part for part in verdict.parts if _who(part, compared) == who]
    excess_ns = sum(part.excess_ns if part.excess_ns is not None else part.lost_ns for part in mine)
    return Culprit(
        cause=first,
        entity=_entity(who, lost, first, named),
        share_of_excess=int(change_ns * 10_000 / whole_ns) / 10_000,
        without_ns=max(0, verdict.duration_ns - max(0, excess_ns)),
        before_ns=round(compared.mean_before(lost)),
        change_ns=round(change_ns),
        layer=_layer(who, lost, first, compared),
        because=_spoken(compared, who),
        causes=[
            CauseChange(cause, _entity(who, lost, cause, named), round(before[cause]), round(amount_ns))
            for cause, amount_ns in changes.items()
            if abs(amount_ns) >= 0.01 * change_ns
        ],
    )


def _layer(who: Who, lost: Lost, cause: str, compared: Compared) -> str:
    """Who would mend it: by its main cause, or where nothing explains it by what else was seen."""
    if cause != UNEXPLAINED:
        return by_name(cause).layer
    if (layer := limit_of(compared, lost)) is not None:
        return layer
    if who.type in ("service", "host"):
        return "dependency" if who.type == "service" else "host"
    edge = edge_of(compared, who)
    return "network" if edge is not None and edge.side == "way" else "app"


def _spoken(compared: Compared, who: Who) -> str:
    """What else says that it grew."""
    edge = edge_of(compared, who)
    if edge is None:
        return ""
    return f"{edge.caller}'s calls of {edge.callee}{' ' if edge.operation else ''}{edge.operation}: {edge.because}"


def _conclusive(compared: Compared, blamed: Sequence[Who]) -> bool:
    """Whether what was measured of the culprits, at its lower bounds, covers at least half of what was added."""
    sure_ns = 0.0
    for who in blamed:
        for loss in compared.lost[who].losses:
            if loss.cause != UNEXPLAINED:
                sure_ns += max(0.0, loss.low_ns / compared.requests - loss.before_high_ns / compared.requests_before)
    added_ns = sum(compared.change_ns(compared.lost[who]) for who in blamed)
    return bool(blamed) and 2 * sure_ns >= max(added_ns, compared.change_ns(compared.total))


def _standing(compared: Compared, blamed: Sequence[Who], named: Naming) -> list[Standing]:
    """What is large and did not grow, the largest first."""
    whole_ns = compared.mean(compared.total)
    found = []
    for who, lost in compared.lost.items():
        now_ns = compared.mean(lost)
        if who in blamed or not whole_ns or now_ns < STANDS * whole_ns or is_open(compared, lost):
            continue
        amounts: dict[str, float] = defaultdict(float)
        for loss in lost.losses:
            amounts[loss.cause] += loss.now_ns
        cause = max(amounts, key=lambda one: (amounts[one], one))
        found.append(
            Standing(
                cause=cause,
                entity=_entity(who, lost, cause, named),
                now_ns=round(now_ns),
                before_ns=round(compared.mean_before(lost)),
                share=int(now_ns * 10_000 / whole_ns) / 10_000,
            )
        )
    return sorted(found, key=lambda one: (-one.now_ns, one.entity.id))[:STANDING]


def _who(part: Part, compared: Compared) -> Who | None:
    """To whom a part of the slow requests is added up."""
    for who, lost in compared.lost.items():
        for loss in lost.losses:
            if (loss.cause, loss.entity_type) == (part.cause, part.entity.type) and (
                loss.entity_id == part.entity.id or (part.entity.type == "process" and who.id == part.service)
            ):
                return who
    return None


def _with_part_changes(verdict: Verdict, compared: Compared, blamed: Sequence[Who], named: Naming) -> Verdict:
    """Each part with what its cause takes of a mean request, before and more now; and parts that no slow request has.

    A container that was made anew is compared with the one before it: figures are of a cause in all of a service, and
    parts share them as their time is.
    """
    figures: dict[tuple[Who, str], tuple[float, float]] = {}
    for who, lost in compared.lost.items():
        for loss in lost.losses:
            now_ns, before_ns = figures.get((who, loss.cause), (0.0, 0.0))
            figures[who, loss.cause] = (
                now_ns + loss.now_ns / compared.requests,
                before_ns + loss.before_ns / compared.requests_before,
            )
    mine: dict[tuple[Who, str], list[Part]] = defaultdict(list)
    strange: list[Part] = []
    for part in verdict.parts:
        who_is = _who(part, compared)
        if who_is is None:
            strange.append(replace(part, before_ns=0, change_ns=0))
        else:
            mine[who_is, part.cause].append(part)
    parts: list[Part] = []
    for key, (now_ns, before_ns) in figures.items():
        alike = mine.get(key, [])
        who, cause = key
        if not alike and cause != UNEXPLAINED and (who in blamed or now_ns >= STANDS * compared.mean(compared.total)):
            alike = [_absent(who, compared.lost[who], cause, verdict, named)]
        whole = sum(part.lost_ns for part in alike)
        for part in alike:
            share = part.lost_ns / whole if whole else 1 / len(alike)
            before = round(before_ns * share)
            parts.append(replace(part, before_ns=before, change_ns=round(now_ns * share) - before))
    parts += strange
    parts.sort(key=lambda part: (-(part.change_ns or 0), part.cause, part.service, part.entity.id))
    return replace(verdict, parts=parts)


def _absent(who: Who, lost: Lost, cause: str, verdict: Verdict, named: Naming) -> Part:
    """A part that the slow requests lost nothing to."""
    has_usual = verdict.usual_ns is not None
    nothing = 0 if has_usual else None
    known = by_name(cause)
    return Part(
        cause=cause,
        layer=known.layer,
        service=who.id if who.type == OWNER else verdict.service,
        entity=_entity(who, lost, cause, named),
        lost_ns=0,
        low_ns=0,
        high_ns=0,
        usual_ns=nothing,
        usual_low_ns=nothing,
        usual_high_ns=nothing,
        excess_ns=nothing,
        evidence="measured",
        by=[],
        where=None,
        because="",
        try_=known.to_try(""),
    )
