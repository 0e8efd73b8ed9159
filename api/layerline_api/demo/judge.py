"""Was the verdict right? What Layerline blamed beside what was injected, for the same requests.

For each request with the fault the part that the fault must be (its cause, its service) is looked up, and what it has
**above its usual** counts, as in the verdict itself. A chapter's figures are medians over its requests: one request
that was disturbed by something else moves them little, and an engineer who looks at any one of these requests sees
about these numbers.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from layerline_api.demo.ask import Part, Verdict
from layerline_api.demo.intruders import TOLERATED
from layerline_api.demo.story import Chapter

#: How many of the requests must name the fault's own cause first.
AGREEMENT = 0.8
#: How far blamed may be from injected, and how wide the range may be, as shares of what was injected.
TOLERANCE = 0.2
WIDTH = 0.3


@dataclass(frozen=True, slots=True)
class Judgement:
    """One line of the table."""

    chapter: Chapter
    cause: str | None
    """The first culprit of most requests; None if most have none."""
    entity: str
    agreeing: int
    """Requests whose first culprit is the fault's own cause, at its own entity."""
    requests: int
    blamed_ns: int
    low_ns: int
    high_ns: int
    example: str
    """The trace whose blame is nearest the median."""
    wrong: tuple[str, ...]
    """What is not as it must be, in words; empty: ok."""

    @property
    def ok(self) -> bool:
        """Right cause, right milliseconds, narrow range."""
        return not self.wrong


def judge(chapter: Chapter, verdicts: Sequence[Verdict]) -> Judgement:
    """The judgement over a chapter's requests, of which ``verdicts`` holds those that the server knows."""
    wrong = []
    if len(verdicts) < len(chapter.faulty):
        wrong.append(f"{len(chapter.faulty) - len(verdicts)} of {len(chapter.faulty)} requests are unknown")
    firsts = Counter(
        (first.cause, first.entity_name) if (first := verdict.first) else (None, "") for verdict in verdicts
    )
    (cause, entity), _ = firsts.most_common(1)[0] if firsts else ((None, ""), 0)
    agreeing = sum(is_meant(chapter, verdict.first) for verdict in verdicts)
    if agreeing < AGREEMENT * len(chapter.faulty):
        wrong.append(f"first culprit in {agreeing} of {len(chapter.faulty)} requests")
    blames = [blame(chapter, verdict) for verdict in verdicts]
    blamed_ns, low_ns, high_ns = (
        (round(statistics.median(figures)) for figures in zip(*blames, strict=True)) if blames else (0, 0, 0)
    )
    injected_ns = chapter.injected_ns
    if abs(blamed_ns - injected_ns) > TOLERANCE * injected_ns:
        wrong.append(f"blamed {blamed_ns / 1e6:.0f} ms for {injected_ns / 1e6:.0f} ms")
    if high_ns - low_ns > WIDTH * injected_ns:
        wrong.append(f"range {(high_ns - low_ns) / 1e6:.0f} ms wide")
    if wrong and chapter.others > TOLERATED:
        wrong.append(f"other work used {chapter.others:.0%} of this machine meanwhile")
    nearest = min(zip(blames, verdicts, strict=True), key=lambda pair: abs(pair[0][0] - blamed_ns), default=None)
    example = nearest[1].trace_id if nearest else chapter.faulty[0].trace_id
    return Judgement(
        chapter, cause, entity, agreeing, len(chapter.faulty), blamed_ns, low_ns, high_ns, example, tuple(wrong)
    )


def named(part: Part | None) -> tuple[str | None, str]:
    """Cause and entity, for counting."""
    return (None, "") if part is None else (part.cause, part.entity_name)


def is_meant(chapter: Chapter, part: Part | None) -> bool:
    """Whether a part is the injected fault: its cause, its service, its entity, its neighbour where these are fixed."""
    return (
        part is not None
        and part.cause == chapter.fault.cause
        and part.service == chapter.fault.service
        and chapter.entity in (None, part.entity_id)
        and (chapter.neighbour is None or part.by[:1] == (chapter.neighbour,))
    )


def blame(chapter: Chapter, verdict: Verdict) -> tuple[int, int, int]:
    """Excess of the part that the fault must be, and its bounds less the same usual; zeros if there is none."""
    for part in verdict.parts:
        if is_meant(chapter, part):
            return part.excess_ns, *part.excess_range_ns
    return 0, 0, 0
