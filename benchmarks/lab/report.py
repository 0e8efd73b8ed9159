"""The tables: on the terminal, and in docs/ACCURACY.md with all that is needed to make them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.lab.catalogue import all_faults
from benchmarks.lab.folder import Piece
from benchmarks.lab.intervals import Row as Interval
from benchmarks.lab.record import Record, Truth
from benchmarks.lab.score import (
    HEALTHY_KINDS,
    KNOWN_NS,
    KNOWN_RATIO,
    NOTHING,
    Blame,
    Goal,
    Score,
    Summary,
    median,
    percentile,
    share,
)
from benchmarks.lab.way import Way, parse

#: What cannot be produced at will on any one machine; tested with made-up readings in tests/scenarios.
BY_SCENARIO = ("host.cpu_stolen", "host.memory_stalled", "host.network_saturated")
#: What the figures mean; settled before they were measured.
RULES = (
    "A case is one fault with drawn parameters, done to a real container that is run in a drawn way (its server and",
    "threads, its cores, the period and the place of its CPU limit): healthy requests, then three with the fault;",
    "the middle one by the client's stopwatch is judged by its verdict. *Truth* is the fault's own constant where it",
    "has one; where several faults or threads do not add up, the kernel's own trace (`sched_switch`) along the path;",
    "else what the client measured with the fault less the median without it. A first culprit is *right* if it is the",
    "expected cause at the expected entity (of two faults the larger, and both must be named) and the verdict is",
    "conclusive: an inconclusive one counts as a miss, unless the fault declares beforehand that Layerline is blind.",
    "Where the thread that a request waits for (it has a lock, the interpreter or the event loop) is itself held back,",
    "the right culprit is what holds it back: *Accepted, and why* gives the reasons.",
    "The truth is *inside* if the range, less its usual, holds it to "
    f"{KNOWN_NS / 1e6:.0f} ms and {KNOWN_RATIO:.0%}: no stopwatch knows it better.",
)
#: A run of so many cases is shown case by case.
FEW = 30
Rows = list[list[str]]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how the figures were made."""

    seed: str
    pieces: Sequence[Piece]
    records: Sequence[Record]

    def lines(self) -> list[str]:
        """For the head of the report: a line for each piece of the run, as each may have been of another commit."""
        lines = [f"Seed: `{self.seed}`"]
        for piece in self.pieces:
            own = [record for record in self.records if record.piece == piece.number]
            state = ", **with changes that are not committed: not a measurement of this commit**" if piece.dirty else ""
            minutes = max((record.ended_s for record in own), default=0.0) / 60
            lines.append(
                f"Piece {piece.number}: {len(own)} cases in {minutes:.0f} minutes; `{piece.command}`; "
                f"commit `{piece.commit}`{state}; {piece.machine}"
            )
        seconds = median([record.seconds for record in self.records])
        lines.append(f"Median time of a case, without its container: {seconds or 0:.1f} s")
        return lines


def sections(summary: Summary, intervals: Sequence[Interval]) -> Iterator[tuple[str, list[str], Rows]]:
    """Every table as title, column heads and rows; both writers use these."""
    yield "Goals", ["goal", "found", "must be", ""], [goal_row(goal) for goal in summary.goals]
    said = sorted({cause for row in summary.confusion.values() for cause in row})
    yield (
        "First culprit: injected (row) and said",
        ["injected", "n", "said"],
        [
            [cause, str(row.total()), ", ".join(f"{other} {row[other]}" for other in said if row[other])]
            for cause, row in sorted(summary.confusion.items())
        ],
    )
    yield (
        "Milliseconds, by cause",
        ["cause", "n", "median error", "p90 error", "median error %", "inside", "width %"],
        [cause_row(cause, blames) for cause, blames in sorted(summary.blames.items())],
    )
    if intervals:
        yield (
            "Without our account, by interval of the readings",
            ["interval", "n", "truth inside the range", "median width", "blind besides"],
            [
                [
                    f"{row.interval_ns / 1e9:g} s",
                    str(len(row.blames)),
                    percent(row.inside),
                    percent(row.width),
                    str(row.blind),
                ]
                for row in intervals
            ],
        )
    faults = sorted({one.record.fault for one in summary.scores})
    yield (
        "By fault",
        ["fault", "kind", "n", "first right", "in top 3", "abstained", "seconds"],
        [fault_row(name, [one for one in summary.scores if one.record.fault == name]) for name in faults],
    )
    yield (
        "By way of running",
        ["way", "n", "first right", "truth inside", "median error %", "false blame"],
        [way_row(way, of_way) for way, of_way in grouped(summary.scores, lambda way: "+".join(way.parts[:2]))],
    )
    yield (
        "By CPU limit: its period, and whether it is the container's own or its parent cgroup's",
        ["limit", "n", "first right", "truth inside", "median error %", "false blame"],
        [way_row(way, of_way) for way, of_way in grouped(summary.scores, lambda way: "+".join(way.parts[2:])) if way],
    )
    faulted = {one.record.fault for one in summary.scores}
    yield (
        "Accepted, and why",
        ["fault", "right are", "because"],
        [
            [fault.name, " or ".join(expected.accepted), expected.because]
            for fault in all_faults().values()
            for expected in fault.expected
            if expected.because and fault.name in faulted
        ],
    )
    named = [one.neighbour_named for one in summary.scores if one.neighbour_named is not None]
    blind = [one for one in summary.scores if one.record.blind is not None]
    abstained = [one for one in summary.scores if one.abstained]
    yield (
        "Beside that",
        ["", ""],
        [
            ["neighbour named first", percent(share(named))],
            ["abstentions", str(len(abstained))],
            ["of them right (declared blind beforehand)", str(sum(one in blind for one in abstained))],
            ["disturbed by other work, or of unknown truth: not counted", str(len(summary.disturbed))],
            ["tested by scenario files only", ", ".join(BY_SCENARIO)],
        ],
    )
    yield (
        "Misses",
        ["case", "way", "fault", "parameters", "reason"],
        [miss_row(one) for one in summary.scores if not one.right],
    )
    if summary.disturbed:
        yield (
            "Disturbed",
            ["case", "way", "fault", "parameters", "others", "failure"],
            [
                [*miss_row(one)[:4], percent(one.record.others_ratio), one.record.failure or ""]
                for one in summary.disturbed
            ],
        )


def goal_row(goal: Goal) -> list[str]:
    """One goal."""
    counted = goal.bound > 1
    found = "not measured" if goal.value is None else f"{goal.value:.0f}" if counted else percent(goal.value)
    bound = f"{'≥' if goal.at_least else '≤'} {f'{goal.bound:.0f}' if counted else percent(goal.bound)}"
    return [goal.title, found, bound, "reached" if goal.reached else "NOT reached"]


def cause_row(cause: str, blames: tuple[Blame, ...]) -> list[str]:
    """The milliseconds of one cause."""
    errors = [blame.error_ns / 1e6 for blame in blames]
    return [
        cause,
        str(len(blames)),
        f"{percentile(errors, 0.5):.0f} ms",
        f"{percentile(errors, 0.9):.0f} ms",
        percent(median([blame.error_ratio for blame in blames])),
        percent(share([blame.inside for blame in blames])),
        percent(median([blame.width_ratio for blame in blames])),
    ]


def fault_row(name: str, scores: list[Score]) -> list[str]:
    """One fault."""
    return [
        name,
        scores[0].record.kind,
        str(len(scores)),
        str(sum(one.right for one in scores)),
        str(sum(one.in_top_three for one in scores)),
        str(sum(one.abstained for one in scores)),
        f"{median([one.record.seconds for one in scores]) or 0:.1f}",
    ]


def grouped(scores: Sequence[Score], name: Callable[[Way], str]) -> list[tuple[str, list[Score]]]:
    """Scores by a name of their way, in the order of the names."""
    groups: dict[str, list[Score]] = {}
    for one in scores:
        groups.setdefault(name(parse(one.record.way)), []).append(one)
    return sorted(groups.items())


def way_row(name: str, scores: list[Score]) -> list[str]:
    """One way of running, over all faults but those that are declared blind."""
    seeing = [one for one in scores if one.record.blind is None]
    blames = [blame for one in seeing for blame in one.blames if one.record.kind not in HEALTHY_KINDS]
    return [
        name,
        str(len(seeing)),
        percent(share([one.right for one in seeing])),
        percent(share([blame.inside for blame in blames])),
        percent(median([blame.error_ratio for blame in blames])),
        percent(share([one.false_blame for one in seeing if one.record.kind in HEALTHY_KINDS])),
    ]


def miss_row(one: Score) -> list[str]:
    """A case that went wrong, and why."""
    parameters = ", ".join(f"{name} {value}" for name, value in one.record.parameters.items())
    return [str(one.record.number), one.record.way, one.record.fault, parameters, one.reason or NOTHING]


def percent(value: float | None) -> str:
    """A share."""
    return "–" if value is None else f"{value:.1%}"


def each_case(summary: Summary) -> tuple[str, list[str], Rows]:
    """A line for each fault of each case, disturbed or not: what a run of a few cases is read for."""
    return (
        "Cases",
        ["case", "way", "fault", "truth", "by", "blamed (range)", "said first", ""],
        [
            [
                *miss_row(one)[:3],
                *truth_row(truth, blame),
                one.said,
                "disturbed" if one.record.disturbed else one.reason,
            ]
            for one in (*summary.scores, *summary.disturbed)
            for truth, blame in list(zip_longest(one.record.truths, one.blames)) or [(None, None)]
        ],
    )


def truth_row(truth: Truth | None, blame: Blame | None) -> list[str]:
    """What was injected and what was blamed for it; either may be missing."""
    injected = [f"{truth.cause} {round(truth.truth_ns / 1e6)} ms", truth.source] if truth else ["", ""]
    if blame is None:
        return [*injected, ""]
    low, blamed, high = (round(ns / 1e6) for ns in (blame.low_ns, blame.blamed_ns, blame.high_ns))
    return [*injected, f"{blamed} ms ({low} to {high})"]


def show(console: Console, summary: Summary, intervals: Sequence[Interval] = ()) -> None:
    """On the terminal; a run of a few cases case by case, too."""
    tables = list(sections(summary, intervals))
    if len(summary.scores) + len(summary.disturbed) <= FEW:
        tables.append(each_case(summary))
    for title, heads, rows in tables:
        table = Table(*heads, title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row))
        console.print(table)


def markdown(summary: Summary, setting: Setting, intervals: Sequence[Interval] = ()) -> str:
    """The document."""
    text = ["# How right the verdicts are", "", "Made by the fault lab; `make lab` makes it again on your machine.", ""]
    text += [*RULES, ""]
    text += [f"* {line}" for line in setting.lines()]
    for title, heads, rows in sections(summary, intervals):
        text += ["", f"## {title}", "", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
        text += [
            f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ')[:300] for cell in row)} |" for row in rows
        ]
    return "\n".join(text) + "\n"
