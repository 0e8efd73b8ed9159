"""Import recorded data (OTLP files, Jaeger's JSON, ClickHouse's tables, RCAEval's cases) into a store of its own.

Exit codes: 0 imported, 1 a file could not be read (the others were), 2 could not begin, 143 and 130 stopped by SIGTERM
or SIGINT before the end. What is stopped or killed continues where it was when the same command is run again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from rich.console import Console

from layerline import configuration
from layerline.parsing import Parser
from layerline_api.ending import Stopped, leave, stoppable
from layerline_api.recorded.gathered import Unreadable
from layerline_api.recorded.importing import Held, NotARecording, import_files
from layerline_api.recorded.sources import FORMATS, sources
from layerline_api.words.clean import clean
from layerline_correlator.settings import Settings
from layerline_correlator.store.disk import why_not_opened
from layerline_correlator.store.store import Overloaded, StoreInUse

COMMAND = "import"

#: So long a time before an incident is named to compare with, at least, in seconds.
_BEFORE_S = 900


def main(argv: Sequence[str]) -> int:
    """``layerline import [--store DIR] [--format F] [--all] PATH…``."""
    options = _options(argv)
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)

    def refuse(reason: object) -> int:
        print(f"layerline import: {clean(reason)}", file=sys.stderr)
        return 2

    try:
        settings = Settings.from_environment(configuration.below("serve", must=False))
        settings = replace(settings, store=options.store or settings.store / "recorded")
        found = sources(options.path, options.format)
        with stoppable():
            held, failed = import_files(found, settings, console, whole=options.all)
    except StoreInUse as problem:
        return refuse(f"{problem}: stop the server that has it, or name a folder of its own with --store DIR")
    except NotARecording as problem:
        return refuse(
            f"the store {settings.store} is not for recorded data: {problem}; name a new folder with --store DIR"
        )
    except OSError as problem:
        return refuse(f"{problem.filename or settings.store}: {problem.strerror or problem}")
    except duckdb.Error as problem:
        return refuse(why_not_opened(settings.store, problem))
    except Overloaded as problem:
        return refuse(f"{problem}; run the same command again to go on")
    except (Unreadable, ValueError, RuntimeError) as problem:
        return refuse(problem)
    except KeyboardInterrupt as stopped:
        kept = f"what was imported so far is kept in {settings.store}"
        print(f"layerline import: stopped; run the same command again to continue: {kept}", file=sys.stderr)
        code = stopped.code if isinstance(stopped, Stopped) else 130
        leave(code)
        return code
    print(_summary(held, settings.store))
    return 1 if failed else 0


def _summary(held: Held, store: Path) -> str:
    """What the store holds now, and what to ask."""
    counts = {"spans": held.spans, "points": held.points, "events": held.events}
    parts = [f"{count:,} {name}" for name, count in counts.items() if count]
    lines = []
    if held.rejected:
        lines.append(f"{held.rejected:,} items could not be read")
    if held.left_out:
        lines.append(f"{held.left_out:,} log records are not kept: they tell of no event and no error")
    if held.without_ledger:
        lines.append(
            f"{held.without_ledger:,} of {held.traces:,} traces are ordinary and have no ledger: the others are a fair"
            " sample, and slow and failed ones have theirs (--all works out all)"
        )
    if held.first_ns is None or held.last_ns is None:
        return "\n".join(["nothing was imported", *lines])
    first, last = held.first_ns // 10**9, held.last_ns // 10**9 + 1
    begin, end = _moment(first), _moment(last)
    asked = [f"      layerline why --from {begin} --to {end}"]
    if held.incidents:
        from_s, to_s = held.incidents[0][0] // 10**9, held.incidents[0][1] // 10**9 + 1
        before_s = max(first, from_s - max(to_s - from_s, _BEFORE_S))
        many = f"the longest of {len(held.incidents)} incidents" if len(held.incidents) > 1 else "the incident"
        asked += [
            f"      layerline incidents --from {begin} --to {end}",
            f"{many}:",
            f"      layerline why --from {_moment(from_s)} --to {_moment(to_s)}",
        ]
        if before_s < from_s:
            asked.append(f"the time before it: {_moment(before_s)}/{_moment(from_s)}")
    return "\n".join(
        [
            f"imported {', '.join(parts)} from {begin} to {end}",
            *lines,
            f"ask:  layerline serve --store {store}",
            *asked,
        ]
    )


def _moment(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="layerline import", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", nargs="+", type=Path, metavar="PATH", help="a file, or a folder with tables")
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="the folder of its store (default: `recorded` in LAYERLINE_STORE)"
    )
    parser.add_argument("--format", choices=FORMATS, default="auto", help="what the files are (default: looked at)")
    parser.add_argument(
        "--all", action="store_true", help="work out the ledgers of all traces (default: of many, a fair sample)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
