"""``python -m benchmarks.lab.coarse``: record, publish as others would, judge, report."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from docker.errors import DockerException
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from requests.exceptions import RequestException
from rich.console import Console

from benchmarks.lab import document
from benchmarks.lab.coarse import report
from benchmarks.lab.coarse.each_cpu import read_looks
from benchmarks.lab.coarse.faults import FAULTS, Fault
from benchmarks.lab.coarse.judge import METRICS, TRACES, Judged, judge
from benchmarks.lab.coarse.labels import read_labels
from benchmarks.lab.coarse.messages import read_messages, write_messages
from benchmarks.lab.coarse.published import INTERVALS_S, VOCABULARIES, published
from benchmarks.lab.coarse.record import EACH_CPU, Pace, record
from layerline_api.demo import engine
from layerline_api.demo.place import DemoError
from layerline_api.demo.show import ending_on_signals, ignore_signals

CASES = "cases"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    usual = Pace()
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.lab.coarse",
        description=__doc__,
        epilog="Exit codes: 0 it ran (the table says how well); 2 it could not; 130 interrupted.",
    )
    arguments.add_argument("--only", metavar="FAULT,…", default="*", help="only these faults: mixed_*, errors")
    arguments.add_argument(
        "--first", type=float, default=usual.first, metavar="S", help=f"healthy at first ({usual.first:.0f})"
    )
    arguments.add_argument(
        "--fault", type=float, default=usual.fault, metavar="S", help=f"each fault ({usual.fault:.0f})"
    )
    arguments.add_argument(
        "--healthy", type=float, default=usual.healthy, metavar="S", help=f"healthy after each ({usual.healthy:.0f})"
    )
    arguments.add_argument(
        "--readings", metavar="NAME,…", default="*", help="only these cases: cadvisor-15, docker_stats-60 …"
    )
    arguments.add_argument("--keep", metavar="FOLDER", type=Path, help="the recording's folder (a new one in /tmp)")
    arguments.add_argument("--again", metavar="FOLDER", type=Path, help="run nothing: judge a recording that was kept")
    arguments.add_argument("--write", action="store_true", help="write the section of docs/ACCURACY.md")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the coarse part."""
    options = parser().parse_args(argv)
    console = Console(highlight=False)
    try:
        chosen = faults(options.only)
        cases = case_names(options.readings)
        if options.again is not None:
            folder = options.again
            read_labels(folder)
        else:
            folder = options.keep or Path(tempfile.mkdtemp(prefix="layerline-coarse-"))
            folder.mkdir(parents=True, exist_ok=True)
            pace = Pace(options.first, options.fault, options.healthy)
            console.print(f"{folder}: {len(chosen)} faults, {pace.expected_s(len(chosen)) / 60:.0f} minutes")
            with ending_on_signals(), uninterrupted():
                record(console, folder, chosen, pace)
        judged = [one for name in cases for one in judged_case(console, folder, name)]
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started has been removed")
        return 130
    except (ValueError, DemoError, engine.NoEngine, DockerException, RequestException) as problem:
        print(f"coarse lab: {problem}", file=sys.stderr)
        return 2
    report.show(console, judged)
    console.print(f"kept: {folder}; to judge it again: python -m benchmarks.lab.coarse --again {folder}")
    if options.write:
        document.write_coarse(report.markdown(judged, setting()))
    return 0


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals are ignored once it is over, while what was started is removed."""
    try:
        yield
    finally:
        ignore_signals()


def faults(wanted: str) -> list[Fault]:
    """The faults of these names and patterns. ValueError names one that fits none."""
    patterns = wanted.split(",")
    for pattern in patterns:
        if not any(fnmatchcase(fault.name, pattern) for fault in FAULTS):
            raise ValueError(f"no fault named {pattern!r}, expected one of {', '.join(fault.name for fault in FAULTS)}")
    return [fault for fault in FAULTS if any(fnmatchcase(fault.name, pattern) for pattern in patterns)]


def case_names(wanted: str) -> list[str]:
    """The cases of these names and patterns. ValueError where none fits."""
    names = [f"{vocabulary}-{interval_s}" for vocabulary in VOCABULARIES for interval_s in INTERVALS_S]
    found = [name for name in names if any(fnmatchcase(name, pattern) for pattern in wanted.split(","))]
    if not found:
        raise ValueError(f"no readings named {wanted!r}, expected some of {', '.join(names)}")
    return found


def judged_case(console: Console, folder: Path, name: str) -> list[Judged]:
    """Make one case of a recording, and judge it."""
    began = time.monotonic()
    case = make_case(folder, name)
    judged = judge(case)
    console.print(f"  {name}: {len(judged)} windows ({time.monotonic() - began:.0f} s)", markup=False)
    return judged


def make_case(folder: Path, name: str) -> Path:
    """The folder of a case: spans and labels as recorded, readings as published."""
    vocabulary, _, interval = name.rpartition("-")
    case = folder / CASES / name
    case.mkdir(parents=True, exist_ok=True)
    sent = read_messages(folder / METRICS, ExportMetricsServiceRequest)
    write_messages(case / METRICS, published(sent, vocabulary, int(interval), read_looks(folder / EACH_CPU)))
    for file in (TRACES, "labels.json"):
        (case / file).unlink(missing_ok=True)
        try:
            os.link(folder / file, case / file)
        except OSError:  # another file system
            shutil.copy(folder / file, case / file)
    return case


def setting() -> str:
    """On what it was run."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    return f"* Commit `{commit}`; {platform.machine()}, {cores} cores; kernel {platform.release()}"


if __name__ == "__main__":
    sys.exit(main())
