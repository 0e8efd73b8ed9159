"""What a part says of itself, and what to try: sentences that know their evidence.

A cause writes down what was seen. How sure that is depends on the part: measured in the request itself, or *inferred*
from readings of its container or machine; and inferred with a lower bound above zero, or perhaps nothing at all: a
reading only says what happened in the whole of its interval. Whose readings they are is said with it, because what can
be done about the interval depends on that; and what to try differs where there is no Docker. ``SENTENCES`` lists every
sentence that depends on it with the evidence under which it may appear; tests/correlator/test_sentences.py holds the
list to that, and all sentences to their source.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from layerline.aliases import AGENT

BUSY = "app.cpu_busy"
#: How sources are named in a sentence, where they are named otherwise than in the catalogue.
SPOKEN = {AGENT: f"`{AGENT}`"}
#: The evidence of a part.
MEASURED, SURE, PERHAPS = "measured", "inferred, and not nothing", "inferred, perhaps nothing"

_SPAN = re.compile(r"in span (“.*”)")
#: What stores of earlier versions hold behind it.
_ALONE = ", while nobody else worked there"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a sentence may use: what its cause wrote down (of several requests, of the one that lost most), and how well
    the part is known."""

    because: str
    low_ns: int
    inferred: bool
    every_ns: int | None = None
    """How often its container or machine was read; None where that is not known."""
    source: str = ""
    """Who read it (``layerline.aliases``); "" where nothing tells."""
    in_a_pod: bool = False
    """Its container is one of Kubernetes: there is no ``docker`` to ask."""

    @property
    def readings(self) -> str:
        """``the readings of cAdvisor``."""
        return f"the readings of {SPOKEN.get(self.source, self.source)}" if self.source else "its readings"

    @property
    def evidence(self) -> str:
        """One of the words above."""
        if not self.inferred:
            return MEASURED
        return SURE if self.low_ns > 0 else PERHAPS


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of one cause (None: of every cause without one of its own), and the evidence that it needs."""

    cause: str | None
    evidence: str
    because: Callable[[Seen], str]
    try_: str | None = None
    """What to try instead of what the cause says; None: that."""
    try_in_a_pod: str | None = None
    """The same for a container of Kubernetes."""

    def to_try(self, seen: Seen) -> str | None:
        """What to try; None: what the cause says."""
        return self.try_in_a_pod or self.try_ if seen.in_a_pod else self.try_


def _as_it_is(seen: Seen) -> str:
    return seen.because


def _possibly(seen: Seen) -> str:
    whole = "only say what happened in a whole interval"
    whole = whole if seen.every_ns is None else f"{whole} of {interval(seen.every_ns)}"
    return f"possibly, as {seen.readings} {whole}: {seen.because}" if seen.because else ""


def _some_of_it(seen: Seen) -> str:
    return f"{seen.because.removesuffix(_ALONE)}; not all of it can have been used by something else"


def _used_by_somebody(seen: Seen) -> str:
    span = _SPAN.search(seen.because)
    when = f"while span {span[1]} was open" if span else "meanwhile"
    apart = "too far apart" if seen.every_ns is None else f"{interval(seen.every_ns)} apart, too far"
    return f"its container used CPU time {when}; {seen.readings} are {apart} to say whose it was"


def interval(every_ns: int) -> str:
    """``60 s``; of less than ten seconds with one digit behind the point, where that is not zero."""
    seconds = every_ns / 1e9
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s".replace(".0 s", " s")


SENTENCES = (
    Sentence(
        BUSY,
        SURE,
        _some_of_it,
        "See what else ran in the container meanwhile (`docker top NAME`); if nothing did, profile this operation, and"
        " look for work that grew with the data or was deployed lately.",
        "See what else ran in the container meanwhile (`kubectl exec POD -- ps`); if nothing did, profile this"
        " operation, and look for work that grew with the data or was deployed lately.",
    ),
    Sentence(
        BUSY,
        PERHAPS,
        _used_by_somebody,
        "See first whose CPU time it is: `docker top NAME` lists what runs in the container, and `layerline run`"
        " measures what each request used itself.",
        "See first whose CPU time it is: `kubectl exec POD -- ps` lists what runs in the container, and `layerline run`"
        " measures what each request used itself.",
    ),
    Sentence(None, MEASURED, _as_it_is),
    Sentence(None, SURE, _as_it_is),
    Sentence(None, PERHAPS, _possibly),
)


def sentence(cause: str, seen: Seen) -> Sentence:
    """The one that may be said of a part of this cause."""
    fitting = [one for one in SENTENCES if one.evidence == seen.evidence and one.cause in (cause, None)]
    return next((one for one in fitting if one.cause == cause), fitting[-1])
