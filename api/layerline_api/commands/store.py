"""Look after a store: what it takes, make its file smaller, back it up, restore it, export it for other tools.

`info` asks the server where one has the store; the others need it stopped. A backup is one file with everything in it;
`restore` makes a store of it in a folder that has none, and overwrites nothing.

Exit codes: 0 done, 1 there is no such store or backup, 2 it could not be done (the reason on stderr).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console

from layerline import configuration
from layerline.parsing import Parser
from layerline_api.asking import CannotAsk, body_of, chosen_server
from layerline_api.ending import Stopped, leave, stoppable
from layerline_api.recorded.progress import stage
from layerline_api.terminal.store import show
from layerline_api.terminal.text import print_lines
from layerline_api.words.amounts import amount
from layerline_api.words.clean import clean
from layerline_correlator.plain import plain
from layerline_correlator.settings import Settings
from layerline_correlator.store import maintenance
from layerline_correlator.store.disk import why_not_opened
from layerline_correlator.store.maintenance import AlreadyThere, Copied, NoRoom, NoStore, NotABackup, Progress
from layerline_correlator.store.sealed import NoRoomToSeal
from layerline_correlator.store.store import StoreInUse
from layerline_correlator.store.version import NewerStore

#: What a row of each kind that is sealed is called.
_ROWS = {"point": "points", "span": "spans", "log": "log records"}


def main(argv: Sequence[str]) -> int:
    """``layerline store info [--json] | seal | vacuum | backup FILE | restore FILE | export FOLDER [--store DIR]``."""
    options = _options(argv)
    command = f"layerline store {options.what}"

    def refuse(reason: object, code: int = 2) -> int:
        print(f"{command}: {clean(reason)}", file=sys.stderr)
        return code

    folder = Path("")
    try:
        folder = options.store or Settings.from_environment(configuration.below("serve", must=False)).store
        with stoppable():
            options.run(folder, options)
    except (NoStore, FileNotFoundError) as problem:
        return refuse(problem, 1)
    except StoreInUse as problem:
        return refuse(f"{problem}: stop the server that has it first")
    except (NewerStore, NotABackup, NoRoom, NoRoomToSeal, AlreadyThere, CannotAsk, ValueError) as problem:
        return refuse(problem)
    except duckdb.Error as problem:
        return refuse(why_not_opened(folder, problem))
    except OSError as problem:
        return refuse(f"{problem.filename or folder}: {problem.strerror or problem}")
    except KeyboardInterrupt as stopped:
        print(f"{command}: stopped; nothing was changed", file=sys.stderr)
        code = stopped.code if isinstance(stopped, Stopped) else 130
        leave(code)
        return code
    return 0


def _info(folder: Path, options: argparse.Namespace) -> None:
    body: dict[str, Any]
    try:
        body = plain(maintenance.sizes(folder))
    except StoreInUse:
        body = _asked(folder, options)
    if options.json:
        print(json.dumps(body, ensure_ascii=False, separators=(",", ":")))
    else:
        print_lines(show(body))


def _asked(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What the server says that has the store. ``CannotAsk`` where that is another, or none can be reached."""
    server = chosen_server(options)
    try:
        body = body_of(server, server.get("/api/v1/store"))
    except CannotAsk as problem:
        raise CannotAsk(
            f"a server has the store {folder}, and it cannot be asked: {problem} (--server URL says where it listens)"
        ) from None
    if not isinstance(body.get("folder"), str) or Path(body["folder"]).resolve() != folder.resolve():
        raise CannotAsk(
            f"another process has the store {folder}, and the server at {server.url} has another store: "
            "--server URL says where to ask"
        )
    return body


def _seal(folder: Path, _: argparse.Namespace) -> None:
    settings = Settings.from_environment(configuration.below("serve", must=False))
    with _shown(f"sealing the hours in {folder}") as progress:
        size = maintenance.seal_all(folder, settings.hot_ns, settings.settle_ns, progress, settings.rollup)
    for one in size.sealed:
        print(f"sealed: {one.rows:,} {_ROWS[one.kind]} in {amount(one.bytes, 'By')}, {one.row_bytes:.1f} bytes each")
    if not size.sealed:
        print("nothing is sealed: every hour is hot still")


def _vacuum(folder: Path, _: argparse.Namespace) -> None:
    with _shown(f"writing the database in {folder} anew") as progress:
        done = maintenance.vacuum(folder, progress)
    print(
        f"the database in {folder} takes {amount(done.after_bytes, 'By')} now, {amount(done.before_bytes, 'By')} before"
    )


def _backup(folder: Path, options: argparse.Namespace) -> None:
    with _shown(f"copying the store in {folder}") as progress:
        copied = maintenance.back_up(folder, options.file, progress)
    _print_copied("backed up to", options.file, copied)


def _restore(folder: Path, options: argparse.Namespace) -> None:
    with _shown(f"restoring {options.file}") as progress:
        copied = maintenance.restore(options.file, folder, progress)
    _print_copied("restored in", folder, copied)
    print(f"use it:  layerline serve --store {folder}")


def _export(folder: Path, options: argparse.Namespace) -> None:
    with _shown(f"exporting the store in {folder}") as progress:
        done = maintenance.export(folder, options.folder, progress)
    for name, rows in done.rows.items():
        print(f"{name}.parquet: {rows:,} rows")
    print(f"exported to {done.path}: {amount(done.bytes, 'By')}")


def _print_copied(what: str, where: Path, copied: Copied) -> None:
    print(f"{what} {where}: {amount(copied.bytes, 'By')}, version {copied.version}")


@contextmanager
def _shown(title: str) -> Iterator[Progress]:
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with stage(console, title, 100) as shown:
        yield lambda done, of: shown.at(100 * done // of if of else 100)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="layerline store", description=(__doc__ or "").partition("\n")[0])
    kinds = parser.add_subparsers(dest="what", required=True, metavar="WHAT")

    def add(name: str, about: str, run: Callable[[Path, argparse.Namespace], None]) -> argparse.ArgumentParser:
        one = kinds.add_parser(name, help=about, description=about)
        one.add_argument("--store", type=Path, metavar="DIR", help="the store's folder (default LAYERLINE_STORE)")
        one.set_defaults(run=run)
        return one

    info = add("info", "rows and bytes of each table, and what a span and a container's day of readings take", _info)
    info.add_argument("--json", action="store_true", help="the same as JSON")
    info.add_argument("--server", metavar="URL", help="where to ask if a server has it (default LAYERLINE_SERVER)")
    info.add_argument("--token", help="default LAYERLINE_TOKEN")
    add("seal", "pack hours that are no longer hot into files, and roll up the readings of old ones, now", _seal)
    add("vacuum", "write the database anew, without the room of what was deleted", _vacuum)
    backup = add("backup", "write all of the store into one file", _backup)
    backup.add_argument("file", type=Path, metavar="FILE", help="a new file")
    back = add("restore", "make a store of a backup, in a folder that has none", _restore)
    back.add_argument("file", type=Path, metavar="FILE", help="from `layerline store backup FILE`")
    out = add("export", "write what SQL can ask for (`layerline docs sql`) to Parquet files, for other tools", _export)
    out.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
