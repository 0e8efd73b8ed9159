"""``python -m benchmarks.lab``: draw, run (in pieces, if need be), score, report."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

from docker.errors import DockerException
from requests.exceptions import RequestException
from rich.console import Console

from benchmarks.lab import document, intervals, pace, report
from benchmarks.lab.catalogue import all_faults
from benchmarks.lab.draw import Choice, by_container, draw, planned, recalled
from benchmarks.lab.fault import Case
from benchmarks.lab.folder import Folder, Piece, Plan
from benchmarks.lab.injectors import parent_cgroup
from benchmarks.lab.record import Record, line
from benchmarks.lab.runner import Lab
from benchmarks.lab.score import summarise
from benchmarks.lab.stage import Stage
from benchmarks.lab.way import Way, matches
from layerline_api.demo import engine, layout
from layerline_api.demo.ask import Ask
from layerline_api.demo.place import DemoError
from layerline_api.demo.progress import Progress
from layerline_api.demo.progress import Stage as Bar
from layerline_api.demo.show import ending_on_signals, ignore_signals, watched_containers

HERE = Path(__file__).parents[2]

#: Some more than the 300 that must count: cases that other work disturbed do not.
CASES = 330


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.lab",
        description=__doc__,
        epilog="Exit codes: 0 it ran, or a piece of it (whether the goals were reached is in the table); "
        "2 it could not; 130 it was interrupted.",
    )
    arguments.add_argument("--cases", type=int, help=f"how many are drawn ({CASES}; with --only, one per fault)")
    arguments.add_argument("--seed", metavar="HEX", help="the first eight digits of the commit, unless given")
    arguments.add_argument(
        "--only",
        metavar="[WAY/]FAULT,…",
        help="only these faults, in these ways: gthread-16+all/cpu_quota, parent+20ms/*, lock_*; "
        "a way names the parts that it must have, the others are drawn",
    )
    arguments.add_argument("--quick", action="store_true", help="one case per fault; writes no docs/ACCURACY.md")
    arguments.add_argument("--list", action="store_true", help="run nothing: print the cases and how long they take")
    arguments.add_argument("--score", metavar="FOLDER", type=Path, help="run nothing: score a run that was kept again")
    arguments.add_argument("--keep", metavar="FOLDER", type=Path, help="the run's folder (a new one in /tmp)")
    arguments.add_argument("--resume", metavar="FOLDER", type=Path, help="go on with the run in this folder")
    arguments.add_argument(
        "--minutes", type=float, help="begin no container after so many; --resume continues from there"
    )
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the lab."""
    options = parser().parse_args(argv)
    console = Console(highlight=False)
    try:
        if options.score is not None:
            show(console, Folder(options.score), write=False)
            return 0
        if options.resume is not None:
            folder = Folder(options.resume)
            plan = folder.plan()
        else:
            seed: str = options.seed or git("rev-parse", "HEAD")[:8]
            cases = choose(options.only, options.quick, options.cases, seed, parents=can_have_parents(console))
            full = options.only is None and not options.quick
            ordered = [planned(case) for _, group in by_container(cases, seed) for case in group]
            plan = Plan(seed, full, tuple(ordered))
        faults = all_faults()
        recalled_cases = [recalled(faults, one) for one in plan.cases]
        if options.list:
            for case in recalled_cases:
                console.print(f"{case.number:4} {case.way}/{case.fault.name} {dict(case.parameters)}", markup=False)
            console.print(pace.expected(recalled_cases, []))
            return 0
        if options.resume is None:
            folder = Folder(options.keep or Path(tempfile.mkdtemp(prefix="layerline-lab-")))
            folder.begin(plan)
    except ValueError as problem:
        print(f"lab: {problem}", file=sys.stderr)
        return 2
    done = folder.records()
    left = remaining(recalled_cases, done)
    console.print(f"{folder.path}: {len(done)} of {len(plan.cases)} cases are done")
    if left:
        piece = begin_piece(console, folder, " ".join(sys.argv[1:] if argv is None else argv))
        console.print(pace.expected(left, done))
        with ending_on_signals():
            try:
                run(console, left, folder, piece, options.minutes)
            except KeyboardInterrupt:
                console.print(f"interrupted; everything that was started has been removed. {how_to_resume(folder)}")
                return 130
            except (DemoError, engine.NoEngine, DockerException, RequestException) as problem:
                print(f"lab: {problem}", file=sys.stderr)
                return 2
    whole = not remaining(recalled_cases, folder.records())
    show(console, folder, write=plan.full and whole)
    if not whole:
        console.print(how_to_resume(folder))
    return 0


def how_to_resume(folder: Folder) -> str:
    """What to type next."""
    return f"To go on: python -m benchmarks.lab --resume {folder.path}"


def can_have_parents(console: Console) -> bool:
    """Whether a container can be put below a cgroup of ours; says why not. True where no engine answers: that is said
    when something is run.
    """
    try:
        client = engine.connect()
    except engine.NoEngine:
        return True
    try:
        driver = client.info().get("CgroupDriver")
    finally:
        client.close()
    if driver == parent_cgroup.DRIVER:
        return True
    console.print(
        f"No limits on a parent cgroup: the engine's cgroup driver is {driver}, expected {parent_cgroup.DRIVER}."
    )
    return False


def begin_piece(console: Console, folder: Folder, arguments: str) -> Piece:
    """Another piece of a run, on this commit and machine."""
    dirty = bool(git("status", "--porcelain"))
    if dirty:
        console.print("[yellow]the tree has changes that are not committed; the report says so[/yellow]")
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.machine()}, {cores} cores; kernel {platform.release()}; Python {platform.python_version()}"
    return folder.add_piece(f"python -m benchmarks.lab {arguments}".strip(), git("rev-parse", "HEAD"), dirty, machine)


def remaining(cases: Sequence[Case], done: Sequence[Record]) -> list[Case]:
    """The cases that have no record, in their order. A case that failed has one: it counts as a miss, once for all."""
    numbers = {record.number for record in done}
    return [case for case in cases if case.number not in numbers]


def show(console: Console, folder: Folder, write: bool) -> None:
    """The tables of what was run so far; ``write``: into the document, too."""
    plan, pieces, records = folder.plan(), folder.pieces(), folder.records()
    with Progress(console).stage("judging again without our account, at other intervals"):
        rows = intervals.compare(folder, records)
    summary = summarise(records)
    report.show(console, summary, rows)
    console.print(f"{len(records)} of {len(plan.cases)} cases: {folder.cases}")
    if write:
        document.write_lab(report.markdown(summary, report.Setting(plan.seed, pieces, records), rows))
        console.print(f"written: {document.ACCURACY.relative_to(HERE)}")


def git(*arguments: str) -> str:
    """What git says about this checkout."""
    return subprocess.run(
        ["git", "-C", str(HERE), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def choose(only: str | None, quick: bool, count: int | None, seed: str, parents: bool = True) -> list[Case]:
    """The cases that were asked for; ``parents``: whether limits on a parent cgroup are possible.

    ValueError names a fault or a way that there is not, or a seed that is no number.
    """
    choices = [
        Choice(choice.fault, [way for way in choice.ways if parents or not way.below_parent])
        for choice in chosen(only, quick)
    ]
    if empty := [choice.fault.name for choice in choices if not choice.ways]:
        raise ValueError(f"{empty[0]} was asked for in a way that is not possible here: a limit on a parent cgroup")
    usual = len(choices) if quick or only else CASES
    return draw(choices, usual if count is None else count, seed)


def chosen(only: str | None, quick: bool) -> Iterator[Choice]:
    """Faults and their ways, as ``--only`` and ``--quick`` say. ValueError as ``choose``."""
    faults = all_faults()
    for wanted in only.split(",") if only else ["*"]:
        pattern, slash, name = wanted.rpartition("/")
        named = [fault for fault in faults.values() if fnmatchcase(fault.name, name)]
        if not named:
            raise ValueError(f"no fault named {name!r}, expected one of {', '.join(faults)}")
        ways: dict[str, list[Way]] = {
            fault.name: [way for way in fault.ways if not slash or matches(way, pattern)] for fault in named
        }
        if not any(ways.values()):
            parts = sorted({part for fault in named for way in fault.ways for part in way.parts})
            raise ValueError(f"{name} is not run as {pattern!r}, expected some of {', '.join(parts)}, joined by +")
        for fault in named:
            if ways[fault.name] and (fault.quick or not quick):
                yield Choice(fault, ways[fault.name])


def run(console: Console, cases: Sequence[Case], folder: Folder, piece: Piece, minutes: float | None) -> None:
    """Run the cases, write a line for each as soon as its verdict is known, and leave nothing behind."""
    progress = Progress(console)
    began = time.monotonic()
    with ExitStack() as stack, folder.cases.open("a") as lines:

        def write(records: Iterator[Record]) -> None:
            for record in records:
                lines.write(line(record) + "\n")
                lines.flush()

        try:
            stage, ask = open_stage(console, stack, progress)
            lab = Lab(stage, ask, piece.number, began)
            try:
                with layout.staying_on(stage.cores.rest):
                    for container, group in groupby(cases, key=lambda case: case.container):
                        if minutes is not None and time.monotonic() - began > 60 * minutes:
                            break
                        together = list(group)
                        made = lab.run(container, together)
                        with progress.stage(str(container), len(together)) as bar, closing(made):
                            for record in made:
                                said(console, bar, record)
                                write(lab.verdicts())
                    with progress.stage("waiting for the last verdicts"):
                        write(lab.verdicts(all_of_them=True))
            except KeyboardInterrupt:
                ignore_signals()
                write(lab.verdicts())
                raise
            finally:
                with progress.stage("keeping the store"):
                    stage.keep_store(folder.store_of(piece.number))
        finally:
            ignore_signals()


def said(console: Console, bar: Bar, record: Record) -> None:
    """Progress of one case, in a line of its own where no bar is seen."""
    bar.advance()
    if not console.is_terminal:
        times = " ".join(f"{ns / 1e6:.0f}" for ns in record.faulty_ns)
        disturbed = f"; others {record.others_ratio:.0%}" if record.disturbed else ""
        console.print(
            f"    {record.number} {record.way}/{record.fault}: {times} ms ({record.seconds:.1f} s{disturbed})"
            f" {record.failure or ''}",
            markup=False,
        )


def open_stage(console: Console, stack: ExitStack, progress: Progress) -> tuple[Stage, Ask]:
    """Server, agent and supplier. NoEngine where containers are not possible, DemoError on one core."""
    with progress.stage("preparing"):
        place, watching, cores = watched_containers(console, stack)
        parent_cgroup.remove_orphans()
        stage = Stage(place, watching, cores, stack)
        stage.open_supplier()
        stage.open_callee()
        ask = stack.enter_context(Ask(watching.url, watching.token))
    return stage, ask
