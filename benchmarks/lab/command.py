"""``python -m benchmarks.lab``: draw, run, score, report."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from docker.errors import DockerException
from requests.exceptions import RequestException
from rich.console import Console

from benchmarks.lab import intervals, report
from benchmarks.lab.catalogue import all_faults
from benchmarks.lab.draw import by_variant, draw
from benchmarks.lab.fault import Case, Variant
from benchmarks.lab.record import Record, line, load
from benchmarks.lab.runner import Lab, not_run, seconds_per_case
from benchmarks.lab.score import summarise
from benchmarks.lab.stage import Stage
from layerline_api.demo import engine, layout
from layerline_api.demo.ask import Ask
from layerline_api.demo.place import DemoError
from layerline_api.demo.progress import Progress
from layerline_api.demo.progress import Stage as Bar
from layerline_api.demo.show import ending_on_signals, ignore_signals, watched_containers

HERE = Path(__file__).parents[2]
ACCURACY = HERE / "docs" / "ACCURACY.md"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.lab",
        description=__doc__,
        epilog="Exit codes: 0 it ran (whether the goals were reached is in the table); 2 it could not.",
    )
    arguments.add_argument("--cases", type=int, default=210, help="how many cases are drawn (210)")
    arguments.add_argument("--seed", metavar="HEX", help="the first eight digits of the commit, unless given")
    arguments.add_argument("--only", metavar="FAULT,…", help="only these faults")
    arguments.add_argument("--quick", action="store_true", help="one case per fault; writes no docs/ACCURACY.md")
    arguments.add_argument("--score", metavar="FILE", type=Path, help="run nothing: score a run's cases.jsonl again")
    arguments.add_argument("--keep", metavar="FOLDER", type=Path, help="where the JSON lines go (a new folder in /tmp)")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the lab."""
    options = parser().parse_args(argv)
    console = Console(highlight=False)
    commit = git("rev-parse", "HEAD")
    dirty = bool(git("status", "--porcelain"))
    seed: str = options.seed or commit[:8]
    if options.score is not None:
        records = load(options.score)
        report.show(console, summarise(records), again(console, options.score, records))
        return 0
    try:
        cases = choose(options.only, options.quick, options.cases, seed)
    except ValueError as problem:
        print(f"lab: {problem}", file=sys.stderr)
        return 2
    folder: Path = options.keep or Path(tempfile.mkdtemp(prefix="layerline-lab-"))
    folder.mkdir(parents=True, exist_ok=True)
    if dirty:
        console.print("[yellow]the tree has changes that are not committed; the report says so[/yellow]")
    began = time.monotonic()
    with ending_on_signals():
        try:
            records = run(console, cases, seed, folder / "cases.jsonl")
        except KeyboardInterrupt:
            console.print("interrupted; everything that was started has been removed")
            return 130
        except (DemoError, engine.NoEngine, DockerException, RequestException) as problem:
            print(f"lab: {problem}", file=sys.stderr)
            return 2
    summary = summarise(records)
    command = " ".join(["python -m benchmarks.lab", *(sys.argv[1:] if argv is None else argv)])
    setting = report.Setting(command, seed, commit, dirty, seconds_per_case(records), len(os.sched_getaffinity(0)))
    rows = again(console, folder / "cases.jsonl", records)
    report.show(console, summary, rows)
    console.print(f"{len(records)} cases in {time.monotonic() - began:.0f} s; {folder / 'cases.jsonl'}")
    if not options.quick and options.only is None:
        ACCURACY.write_text(report.markdown(summary, setting, rows))
        console.print(f"written: {ACCURACY.relative_to(HERE)}")
    return 0


def again(console: Console, lines: Path, records: Sequence[Record]) -> list[intervals.Row]:
    """The run judged again at coarser intervals, where its store was kept."""
    store = lines.parent / "layerline"
    if not (store / intervals.DATABASE).exists():
        return []
    with Progress(console).stage("judging again without our account, at other intervals"):
        return intervals.compare(store, records)


def git(*arguments: str) -> str:
    """What git says about this checkout."""
    return subprocess.run(
        ["git", "-C", str(HERE), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def choose(only: str | None, quick: bool, count: int, seed: str) -> list[Case]:
    """The cases that were asked for. ValueError names a fault that there is not, or a seed that is no number."""
    faults = all_faults()
    names = only.split(",") if only else list(faults)
    if unknown := [name for name in names if name not in faults]:
        raise ValueError(f"no fault named {unknown[0]!r}, expected one of {', '.join(faults)}")
    chosen = [faults[name] for name in names if not quick or faults[name].quick]
    return draw(chosen, len(chosen) if quick else count, seed)


def run(console: Console, cases: Sequence[Case], seed: str, path: Path) -> list[Record]:
    """Run the cases, write a line for each as soon as it is known, and leave nothing behind."""
    progress = Progress(console)
    records: list[Record] = []
    with ExitStack() as stack, path.open("a") as lines:
        try:
            stage, ask = open_stage(console, stack, progress)
            lab = Lab(stage, ask)
            with layout.staying_on(stage.cores.rest):
                waiting: list[Record] = []
                for variant, group in [*by_variant(cases, seed), (None, [])]:
                    made: list[Record] = []
                    if variant is not None:
                        with progress.stage(str(variant), len(group)) as bar:
                            made = run_variant(lab, variant, group, partial(said, console, bar))
                    found = list(lab.verdicts(waiting))
                    records += found
                    lines.writelines(line(record) + "\n" for record in found)
                    lines.flush()
                    waiting = made
            with progress.stage("keeping the store"):
                stage.keep_store(path.parent)
        finally:
            ignore_signals()
    return records


def said(console: Console, bar: Bar, record: Record) -> None:
    """Progress of one case, in a line of its own where no bar is seen."""
    bar.advance()
    if not console.is_terminal:
        times = " ".join(f"{ns / 1e6:.0f}" for ns in record.faulty_ns)
        console.print(f"    {record.number} {record.fault}: {times} ms ({record.seconds:.1f} s) {record.failure or ''}")


def run_variant(lab: Lab, variant: Variant, group: Sequence[Case], each: Callable[[Record], None]) -> list[Record]:
    """The cases of a container; one that does not come up costs its own cases and nothing more."""
    try:
        return lab.run(variant, group, each)
    except (DockerException, DemoError) as problem:
        lab.stage.watching.check()
        return [not_run(case, f"{variant}: {problem}") for case in group]


def open_stage(console: Console, stack: ExitStack, progress: Progress) -> tuple[Stage, Ask]:
    """Server, agent and supplier. NoEngine where containers are not possible, DemoError on one core."""
    with progress.stage("preparing"):
        place, watching, cores = watched_containers(console, stack)
        stage = Stage(place, watching, cores, stack)
        stage.open_supplier()
        stage.open_callee()
        ask = stack.enter_context(Ask(watching.url, watching.token))
    return stage, ask
