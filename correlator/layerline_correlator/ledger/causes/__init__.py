"""The causes, one file each; this list is the folder's.

The header of a cause's ``.sql`` file is its documentation: title, what it needs, what it means, what it is easily
mistaken for, what to try, what to enable where it cannot be seen, and where its figures come from. The body selects
claims on pieces: ``piece_no, pool, entity_type, entity_id, lost_ns, low_ns, high_ns`` and, where they apply,
``inferred, neighbours, because, place``. The pools are ``cpu``, ``wait``, ``off`` and ``queued`` (``pieces.sql``); a
claim takes at most what earlier causes left (``left_over``).

``reads`` names the tables of the ledger that the body reads, ``empty without`` those of which it needs rows, ``where``
what a piece must have for the cause to be possible: causes that cannot apply to a batch are not asked. ``applies``
names what must be true of what a process did (``APPLIES``; all of them, ``|`` between alternatives): where it is not,
the cause is not blind, whatever was not measured. A fact that no other cause needs is declared where it is needed:
``fact: NAME: WORDS: CONDITION``, the condition over the pieces of a visit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from layerline_correlator.store.statements import text as text_of

#: How the headers say that the agent shall run.
_AGENT = "run `layerline agent` on the machine"
_WRAPPER = "start the service with `layerline run -- CMD`"
_REQUIRED = ("title", "layer", "order", "needs", "means", "mistaken for", "try", "enable", "source")
_OPTIONAL = ("reads", "empty without", "where", "applies", "enable elsewhere")
#: What may be true of what one process did of a request; ``ledger/keep.sql`` says when it is.
APPLIES = ("container", "wait for a CPU", "call", "answered call", "unanswered call", "called container")
LAYERS = ("app", "dependency", "network", "container", "host")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that may have been measured of a visit."""

    name: str  # "layerline.thread.system_ns", or a signal's name
    words: str  # "system time of its threads": as in "… was not measured"
    where: str | None = None  # SQL, an aggregate over the pieces of a visit; None where ledger/facts.sql tells


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
    empty_without: tuple[str, ...]  # of these it needs rows
    where: str | None  # SQL over a row of `piece`: without such a piece the cause is not asked
    applies: tuple[tuple[str, ...], ...]  # all of them; one alternative of each
    sql: str
    facts: tuple[Fact, ...] = ()
    """Facts that only this cause needs."""
    enable_elsewhere: str | None = None
    """What to enable where somebody else's collector reads the containers, if that is something else."""

    def to_enable(self, foreign_readings: bool = False, agent_reads: bool = False, only_wrapper: bool = False) -> str:
        """The one thing to enable where it cannot be seen.

        ``foreign_readings``: somebody else's collector reads the container. ``agent_reads``: our agent reads the
        machine, so that nobody is told to run it. ``only_wrapper``: nothing is missing but what the wrapper measures.
        """
        if foreign_readings and self.enable_elsewhere:
            return self.enable_elsewhere
        if _AGENT not in self.enable or not (agent_reads or only_wrapper):
            return self.enable
        wrapper = self.enable.partition(_AGENT)[0].removesuffix(", and ")
        if only_wrapper:
            return wrapper or _WRAPPER
        return wrapper or "ask `layerline coverage` why `layerline agent`, which runs there, did not read it"


def parse(name: str, text: str) -> Cause:
    """A cause from its file. ValueError names the file, what was expected and what was found."""
    header: dict[str, str] = {}
    facts = []
    for line in text.splitlines():
        match = re.fullmatch(r"-- ([a-z][a-z ]*): (.+)", line)
        if match is None:
            break
        if match[1] == "fact":
            facts.append(_fact(name, match[2]))
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
        reads=_tables(header.get("reads", "")),
        empty_without=_tables(header.get("empty without", "")),
        where=header.get("where"),
        applies=applies,
        sql=text,
        facts=tuple(facts),
        enable_elsewhere=header.get("enable elsewhere"),
    )


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


def _tables(listed: str) -> tuple[str, ...]:
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
