"""The causes, one file each; this list is the folder's.

The header of a cause's ``.sql`` file is its documentation: title, what it needs, what it means, what it is easily
mistaken for, what to try, what to enable where it cannot be seen, and where its figures come from. The body selects
claims on pieces: ``piece_no, pool, entity_type, entity_id, lost_ns, low_ns, high_ns`` and, where they apply,
``inferred, neighbours_no, because, place``. The pools are ``cpu``, ``wait``, ``off`` and ``queued`` (``pieces.sql``); a
claim takes at most what earlier causes left (``left_over``).

``reads`` names the tables of the ledger that the body reads, ``only with`` those of which it needs rows
(``with any of``: of one of them), ``where`` what a piece must have for the cause to be possible: causes that cannot
apply to a batch are not asked. ``applies`` names what must be true of what a process did (``APPLIES``; all of them,
``|`` between alternatives): where it is not, the cause is not blind, whatever was not measured. A fact that no other
cause needs is declared where it is needed: ``fact: NAME: WORDS: CONDITION``, the condition over the pieces of a visit.

More headers say what incidents and suspects must know of a cause. ``fits: CHANGE: WHY`` (as often as needed, the best
first; ``CHANGES``) names a change that can bring it about. ``takes over`` names causes that may hold up the same
requests when this one is gone. ``at fault: one operation's code`` says that the same cause in another operation is
another fault. ``suspected in`` (``PLACES``) and ``suspected of neighbours by: SIGNAL`` say where it is a suspect
although nobody measured it. ``try database`` (``cache``, ``message broker``, ``http service``) is what to try instead
of ``try`` where a dependency is one, ``try in a pod`` where a container is one of Kubernetes. ``enable elsewhere:
SOURCE: WORDS`` is what to enable where that source reads the containers, by its name in ``layerline.aliases``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from layerline.aliases import CADVISOR, DOCKER_STATS, KUBELETSTATS
from layerline_correlator.store.statements import text as text_of

#: How the headers say that the agent shall run.
_AGENT = "run `layerline agent` on the machine"
_WRAPPER = "start the service with `layerline run -- CMD`"
_RUNS_ALREADY = "ask `layerline coverage` why `layerline agent`, which runs there, did not read it"
_NOT_PYTHON = "measure it by other means (`layerline run` is for Python, its SDK says {})"
_REQUIRED = ("title", "layer", "order", "needs", "means", "mistaken for", "try", "enable", "source")
_OPTIONAL = (
    *("reads", "only with", "with any of", "where", "applies"),
    *("try in a pod", "takes over", "at fault", "suspected in", "suspected of neighbours by"),
    *(f"try {kind}" for kind in ("database", "cache", "message broker", "http service")),
)
#: What may have changed (``incidents/changes.py`` says how each is recognised).
CHANGES = (
    *("limit changed", "container started", "container stopped or started"),
    *("new code", "neighbour started", "callee changed"),
)
#: Where a cause may be suspected.
ANY_PLACE, USED_A_DISK = "any place", "a container that used a disk"
PLACES = (ANY_PLACE, USED_A_DISK)
ONE_OPERATION = "one operation's code"
#: What may be true of what one process did of a request; ``ledger/keep.sql`` says when it is.
APPLIES = ("container", "wait for a CPU", "call", "answered call", "unanswered call", "called container")
#: Who else reads containers.
READERS = (DOCKER_STATS, CADVISOR, KUBELETSTATS)
LAYERS = ("app", "dependency", "network", "container", "host")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that may have been measured of a visit."""

    name: str  # "layerline.thread.system_ns", or a signal's name
    words: str  # "system time of its threads": as in "… was not measured"
    where: str | None = None  # SQL, an aggregate over the pieces of a visit; None where ledger/facts.sql tells


@dataclass(frozen=True, slots=True)
class Fit:
    """A change that can bring a cause about."""

    change: str  # one of CHANGES
    why: str  # as in "… (its limit is what the slow requests waited for)"


@dataclass(frozen=True, slots=True)
class Cause:
    """What went wrong, and how to tell."""

    name: str  # "container.cpu_throttled"
    layer: str
    title: str  # says what happened, as the end of "it was …": "held back by its CPU limit"
    order: int  # who takes first where two fit
    needs: tuple[tuple[str, ...], ...]  # all of them; one alternative of each
    means: str
    mistaken_for: str
    try_: str
    enable: str
    source: str
    reads: tuple[str, ...]  # tables of the ledger
    only_with: tuple[str, ...]  # of these it needs rows
    with_any_of: tuple[str, ...]  # of one of these it needs rows
    where: str | None  # SQL over a row of `piece`: without such a piece the cause is not asked
    applies: tuple[tuple[str, ...], ...]  # all of them; one alternative of each
    sql: str
    facts: tuple[Fact, ...] = ()
    """Facts that only this cause needs."""
    enable_elsewhere: tuple[tuple[str, str], ...] = ()
    """What to enable where somebody else's collector reads the containers: by its name in ``layerline.aliases``."""

    fits: tuple[Fit, ...] = ()
    """Changes that can bring it about, the best first."""
    takes_over: tuple[str, ...] = ()
    """Causes that may hold up the same requests when this one is gone: faults are not additive."""
    of_one_operation: bool = False
    """Whether the same cause in another operation of the same service is another fault."""
    suspected_in: str | None = None
    """One of PLACES: where it is a suspect although nobody measured it."""
    suspected_of_neighbours_by: str | None = None
    """The signal by whose rise a neighbour is suspected of it."""

    try_for: tuple[tuple[str, str], ...] = ()
    """What to try instead where the dependency is of a certain type: ``("database", "…")``."""

    def to_try(self, dependency_type: str, *, in_a_pod: bool = False) -> str:
        """What to try against it, for a dependency of this type, or a container of a pod."""
        return dict(self.try_for).get(dependency_type or ("in a pod" if in_a_pod else ""), self.try_)

    def to_enable(
        self,
        foreign_readings: bool = False,
        sources: tuple[str, ...] = (),
        agent_reads: bool = False,
        only_wrapper: bool = False,
        only_agent: bool = False,
        languages: tuple[str, ...] = (),
    ) -> str:
        """The one thing to enable where it cannot be seen.

        ``foreign_readings``: somebody else's collector reads the container; ``sources``: which, as far as it is known.
        ``agent_reads``: our agent reads the
        machine, so that nobody is told to run it. ``only_wrapper``, ``only_agent``: nothing is missing but what the
        wrapper, or the agent, measures. ``languages``: those of the services that are not in Python, and so cannot be
        started with the wrapper; ``""`` stands for all others.
        """
        if foreign_readings and self.enable_elsewhere:
            said = [words for source, words in self.enable_elsewhere if source in sources]
            # Nobody knows who reads it: what each of them would have to do.
            return "; or ".join(said or [f"{words} ({source})" for source, words in self.enable_elsewhere])
        if languages and all(languages):
            if only_wrapper:
                return _NOT_PYTHON.format(" and ".join(languages))
            return _RUNS_ALREADY if agent_reads else _AGENT
        if _AGENT not in self.enable:
            return self.enable
        wrapper, _, rest = self.enable.partition(_AGENT)
        wrapper = wrapper.removesuffix(", and ")
        if only_wrapper:
            return wrapper or _WRAPPER
        if agent_reads:
            return (wrapper if not only_agent else "") or _RUNS_ALREADY
        return _AGENT + rest if only_agent else self.enable


def parse(name: str, text: str) -> Cause:
    """A cause from its file. ValueError names the file, what was expected and what was found."""
    header: dict[str, str] = {}
    facts, fits, elsewhere = [], [], []
    for line in text.splitlines():
        match = re.fullmatch(r"-- ([a-z][a-z ]*): (.+)", line)
        if match is None:
            break
        if match[1] == "fact":
            facts.append(_fact(name, match[2]))
        elif match[1] == "fits":
            fits.append(_fit(name, match[2]))
        elif match[1] == "enable elsewhere":
            elsewhere.append(_elsewhere(name, match[2]))
        else:
            header[match[1]] = match[2]
    missing = [key for key in _REQUIRED if key not in header]
    unknown = [key for key in header if key not in (*_REQUIRED, *_OPTIONAL)]
    if missing or unknown:
        raise ValueError(
            f"cause {name}: expected the headers {', '.join(_REQUIRED)}; missing {missing}, unknown {unknown}"
        )
    if header["layer"] not in LAYERS or not name.startswith(f"{header['layer']}."):
        raise ValueError(
            f"cause {name}: expected its layer {header['layer']!r} to be one of {LAYERS} and to begin its name"
        )
    needs = _alternatives(header["needs"])
    applies = _alternatives(header.get("applies", ""))
    if strange := {word for words in applies for word in words} - {*APPLIES}:
        raise ValueError(f"cause {name}: applies to {strange}; expected some of {', '.join(APPLIES)}")
    known = {fact.name for fact in (*standard_facts(), *facts)}
    if unheard := {fact for need in needs for fact in need} - known:
        raise ValueError(f"cause {name}: needs {unheard}; expected some of {', '.join(sorted(known))}")
    return Cause(
        name=name,
        layer=header["layer"],
        title=header["title"],
        order=int(header["order"]),
        needs=needs,
        means=header["means"],
        mistaken_for=header["mistaken for"],
        try_=header["try"],
        enable=header["enable"],
        source=header["source"],
        reads=_listed(header.get("reads", "")),
        only_with=_listed(header.get("only with", "")),
        with_any_of=_listed(header.get("with any of", "")),
        where=header.get("where"),
        applies=applies,
        sql=text,
        facts=tuple(facts),
        enable_elsewhere=tuple(elsewhere),
        fits=tuple(fits),
        takes_over=_listed(header.get("takes over", "")),
        of_one_operation=_one_of(name, header, "at fault", (ONE_OPERATION,)) is not None,
        suspected_in=_one_of(name, header, "suspected in", PLACES),
        suspected_of_neighbours_by=header.get("suspected of neighbours by"),
        try_for=tuple((key.removeprefix("try "), value) for key, value in header.items() if key.startswith("try ")),
    )


def _fit(cause: str, declared: str) -> Fit:
    """A change that fits as a cause's header declares it: what changed and why, with ``: `` between them."""
    change, _, why = declared.partition(": ")
    if change not in CHANGES or not why:
        raise ValueError(
            f"cause {cause}: expected `-- fits: CHANGE: WHY` with one of {', '.join(CHANGES)}; found {declared!r}"
        )
    return Fit(change, why)


def _elsewhere(cause: str, declared: str) -> tuple[str, str]:
    """What to enable in another collector that reads the containers: its name and the words, separated by ``: ``."""
    source, _, words = declared.partition(": ")
    if source not in READERS or not words:
        raise ValueError(
            f"cause {cause}: expected `-- enable elsewhere: SOURCE: WORDS` with one of {', '.join(READERS)}; found"
            f" {declared!r}"
        )
    return source, words


def _one_of(cause: str, header: Mapping[str, str], key: str, allowed: tuple[str, ...]) -> str | None:
    """A header that must be one of a few words; None where it is absent."""
    found = header.get(key)
    if found is not None and found not in allowed:
        raise ValueError(f"cause {cause}: expected `-- {key}:` to be one of {', '.join(allowed)}; found {found!r}")
    return found


def _fact(cause: str, declared: str) -> Fact:
    """A fact as a cause's header declares it: name, words and condition, with ``: `` between them."""
    match declared.split(": ", 2):
        case [name, words, where]:
            return Fact(name, words, where)
        case _:
            raise ValueError(f"cause {cause}: expected `-- fact: NAME: WORDS: CONDITION`, found {declared!r}")


@cache
def standard_facts() -> tuple[Fact, ...]:
    """The facts of ``ledger/facts.sql``."""
    declared = re.findall(r"^-- fact: (.+?): (.+)$", text_of("ledger/facts.sql"), re.MULTILINE)
    return tuple(Fact(*found) for found in declared)


def facts() -> dict[str, str]:
    """How to name each fact that a cause may need."""
    declared = (fact for cause in all_causes() for fact in cause.facts)
    return {fact.name: fact.words for fact in (*standard_facts(), *declared)}


def _alternatives(listed: str) -> tuple[tuple[str, ...], ...]:
    """``a | b, c``: a or b, and c."""
    return tuple(tuple(one.strip() for one in each.split("|")) for each in listed.split(",") if each.strip())


def _listed(listed: str) -> tuple[str, ...]:
    return tuple(listed.replace(",", " ").split())


@cache
def all_causes() -> tuple[Cause, ...]:
    """Every cause of this folder, in the order in which they take."""
    causes = []
    for file in files(__package__).iterdir():
        if file.name.endswith(".sql"):
            layer, _, rest = file.name.removesuffix(".sql").partition("_")
            causes.append(parse(f"{layer}.{rest}", file.read_text(encoding="utf-8")))
    return tuple(sorted(causes, key=lambda cause: (cause.order, cause.name)))


def by_name(name: str) -> Cause:
    """The cause of that name. KeyError when there is none."""
    return {cause.name: cause for cause in all_causes()}[name]
