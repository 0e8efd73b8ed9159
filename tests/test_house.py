"""The house itself: what may import what, and what an app installs."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import requires
from pathlib import Path

import pytest

from layerline_api.page import pages

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "layerline": ROOT / "instrument/layerline",
    "layerline_agent": ROOT / "instrument/layerline_agent",
    "layerline_correlator": ROOT / "correlator/layerline_correlator",
    "layerline_api": ROOT / "api/layerline_api",
}
MAY_IMPORT = {
    "layerline": set(),
    "layerline_agent": {"layerline"},
    "layerline_correlator": {"layerline"},
    "layerline_api": {"layerline", "layerline_correlator"},
}

CORRELATOR = PACKAGES["layerline_correlator"]
#: The rooms of the correlator, in the order in which data goes down, and which others each may import. The files beside
#: them hold what all rooms share and import no room; only ``correlator``, on top, may import all of them.
ROOM_MAY_IMPORT = {
    "store": set(),
    "facts": {"store"},
    "summaries": {"store"},
    "tagquery": {"store", "summaries"},  # a language: what it selects is asked for by those who read it
    "ledger": {"store", "facts"},
    "verdict": {"store", "facts", "summaries", "ledger"},
    "incidents": {"store", "facts", "ledger", "verdict"},
    "monitors": {"store", "tagquery", "incidents"},  # what they ask is handed to them as functions
    "questions": {"store", "facts", "summaries", "tagquery", "ledger", "verdict", "incidents", "monitors"},
}

#: Rooms of the API, and those beside them that they do not know: what two of them need lies in a room that both see.
STRANGERS = {
    "words": {"alerts", "commands", "doors", "jaeger", "mcp", "page", "prometheus", "recorded", "routes", "terminal"},
    "terminal": {"alerts", "commands", "doors", "jaeger", "mcp", "page", "prometheus", "recorded", "routes"},
    "jaeger": {"alerts", "commands", "doors", "mcp", "page", "prometheus", "recorded", "routes", "terminal"},
    "prometheus": {"alerts", "commands", "doors", "jaeger", "mcp", "page", "recorded", "routes", "terminal"},
    "mcp": {"alerts", "commands", "doors", "jaeger", "page", "prometheus", "recorded", "routes", "terminal"},
    "page": {"alerts", "commands", "doors", "recorded"},  # what is copied from a page is what the terminal prints
    "commands": {"page", "routes"},
    "routes": {"commands", "page", "recorded", "terminal"},
    "doors": {"alerts", "commands", "page", "recorded", "routes", "terminal"},
    "alerts": {"commands", "doors", "page", "recorded", "routes", "terminal"},
    "recorded": {"alerts", "commands", "page", "routes", "terminal"},
}


def modules(packages: Mapping[str, Path]) -> dict[str, Path]:
    """Every module of these packages by its name, ``layerline_correlator.store.store``."""
    found = {}
    for folder in packages.values():
        for source in folder.rglob("*.py"):
            path = source.relative_to(folder.parent).with_suffix("")
            found[".".join(path.parts).removesuffix(".__init__")] = source
    return found


def imported(source: Path) -> Iterator[tuple[str, str]]:
    """All that a file imports, wherever it stands in it: a module, and the name that is taken from it ("" for none)."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}, line {node.lineno}: expected the module's whole name, found a dot"
            yield from ((node.module or "", alias.name) for alias in node.names)


def imports(known: Mapping[str, Path]) -> dict[str, set[str]]:
    """Which of the known modules each of them imports; those below ``TYPE_CHECKING`` and inside functions count too."""
    graph = {}
    for module, source in known.items():
        names = {f"{of}.{name}" if f"{of}.{name}" in known else of for of, name in imported(source)}
        graph[module] = {name for name in names if name in known}
    return graph


def circle(graph: Mapping[str, Set[str]]) -> str:
    """A circle of imports, spelled out: ``a imports b imports a``. Empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as found:
        return " imports ".join(reversed(found.args[1]))
    return ""


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_up_only(package: str) -> None:
    """Data goes down, imports go up: no package imports one that stands above it."""
    for source in PACKAGES[package].rglob("*.py"):
        roots = {of.partition(".")[0] for of, _ in imported(source)}
        wrong = (roots & set(PACKAGES)) - MAY_IMPORT[package] - {package}
        assert not wrong, f"{source.relative_to(ROOT)} imports {wrong}"


def test_no_circle_of_imports() -> None:
    """No module needs itself, by way of others: not for types only, and not inside a function."""
    assert circle(imports(modules(PACKAGES))) == ""


def test_a_circle_is_spelled_out(tmp_path: Path) -> None:
    """A circle is found and named though one of its imports is for types only and another stands in a function."""
    package = tmp_path / "house"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").write_text("from house.room import door\n")
    (package / "room/__init__.py").write_text("")
    (package / "room/door.py").write_text("def open():\n    from house import wall\n")
    (package / "wall.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.room.door\n"
    )
    graph = imports(modules({"house": package}))
    assert graph["house"] == {"house.room.door"}
    assert circle(graph) in (
        "house.wall imports house.room.door imports house.wall",
        "house.room.door imports house.wall imports house.room.door",
    )
    assert circle(graph | {"house.wall": set()}) == ""


def room_of(module: str) -> str:
    """The room of a module of the correlator; "" for the files beside the rooms."""
    _, _, path = module.partition(".")
    room = path.partition(".")[0]
    return room if (CORRELATOR / room).is_dir() else ""


def test_rooms_import_what_stands_before_them() -> None:
    """Data goes down the rooms of the correlator: no room imports one that comes after it."""
    top = {"layerline_correlator.correlator", "layerline_correlator.lived"}
    wrong = []
    for module, others in imports(modules({"layerline_correlator": CORRELATOR})).items():
        room = room_of(module)
        allowed = {"", room} | ROOM_MAY_IMPORT.get(room, set())
        wrong += [
            f"{module} imports {other}"
            for other in sorted(others)
            if module not in top and (other in top or room_of(other) not in allowed)
        ]
    assert not wrong


def test_every_folder_of_the_correlator_is_a_room() -> None:
    """The table of rooms is whole."""
    assert {one.name for one in CORRELATOR.iterdir() if one.is_dir() and one.name[0] != "_"} == set(ROOM_MAY_IMPORT)


@pytest.mark.parametrize("room", STRANGERS)
def test_rooms_of_the_api_keep_apart(room: str) -> None:
    """Pages know no commands and commands no pages: what both need is in ``words``, and no room knows one above it."""
    for source in (PACKAGES["layerline_api"] / room).rglob("*.py"):
        names = {f"{of}.{name}" for of, name in imported(source)}
        rooms = {name.split(".")[1] for name in names if name.startswith("layerline_api.")}
        assert not rooms & STRANGERS[room], f"{source.relative_to(ROOT)} imports from {rooms & STRANGERS[room]}"


def test_one_thing_has_one_name_in_all_rooms() -> None:
    """What is about the same is named as its route is: commands that ask a server, what they print, and pages."""
    api = PACKAGES["layerline_api"]
    names = {room: {path.stem for path in (api / room).glob("[!_]*.py")} for room in ("routes", "terminal")}
    asking = {
        path.stem
        for path in (api / "commands").glob("*.py")
        if any("asking" in f"{of}.{name}" for of, name in imported(path))
    }
    assert asking
    assert asking <= names["routes"], f"commands without a route of their name: {sorted(asking - names['routes'])}"
    assert names["terminal"] - {"text"} <= names["routes"]  # text: what they have in common
    # start: the page at /; map: draws what `services` answers; login: asks nothing
    without = set(pages()) - {"start", "map", "login"} - names["routes"]
    assert not without, f"no route in api/layerline_api/routes is named as these pages are: {sorted(without)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_says_what_it_is_for(package: str) -> None:
    """A room opens with a docstring: a visitor need not guess from the names of its files."""
    for source in PACKAGES[package].rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))), source.relative_to(ROOT)


def test_an_app_installs_opentelemetry_only() -> None:
    """A bare install directly requires OpenTelemetry distributions and nothing else."""
    bare = [line for line in requires("layerline") or [] if "extra ==" not in line]
    assert bare
    assert all(line.startswith("opentelemetry-") for line in bare), bare


#: Where else than in ``threads.py`` a thread is made: short helpers that end with what they watch, and are seen by
#: ``Threads.watch_all`` when they fail.
HELPERS = {
    "layerline_correlator.threads",
    "layerline_correlator.store.patience",
    "layerline_correlator.questions.sql",
    "layerline_api.asking",  # commands: a clock beside one answer
    "layerline_api.ending",
    "layerline_api.alerts.notify",
    "layerline_api.doors.grpc_server",
}


def test_lasting_threads_are_started_in_one_place() -> None:
    """Nobody but ``threads.py``, and helpers that end soon, makes a thread in the server: none ends unseen."""
    server = {name: PACKAGES[name] for name in ("layerline_correlator", "layerline_api")}
    makers = {
        name
        for name, source in modules(server).items()
        if ".demo" not in name
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("threading.Thread", "threading.Timer", "Thread")
    }
    assert makers <= HELPERS


def test_every_result_is_read_to_its_end() -> None:
    """A result of which rows are left unread keeps its transaction open: all rows are read (``first_row``).

    Except of users' SQL, of which only some rows are wanted, on a cursor that is closed right after.
    """
    may = CORRELATOR / "questions/sql.py"
    wrong = [
        f"{source.relative_to(ROOT)}, line {node.lineno}"
        for package in ("layerline_correlator", "layerline_api")
        for source in PACKAGES[package].rglob("*.py")
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("fetchone", "fetchmany") and source != may
    ]
    assert not wrong, f"expected fetchall or first_row, found fetchone or fetchmany in {wrong}"
