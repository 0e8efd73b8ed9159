"""Write the documents that follow from the code: ``python docs/make.py`` (tests/test_docs.py holds them to it).

docs/CAUSES.md comes from the headers of the causes, docs/COMMANDS.md and the table in docs/PAGE.md from the docstrings
of commands and pages, docs/SIGNALS.md from the signal catalogue, and the table of settings in README.md and
docs/SETTINGS.md from the fields of the settings classes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

from flask import Blueprint, Flask

from layerline.command import commands as all_commands
from layerline.configuration import CONFIG_SETTING, known_settings
from layerline.signals import document
from layerline_api.page import pages
from layerline_correlator.ledger.causes import all_causes

ROOT = Path(__file__).parent.parent


def causes() -> str:
    """docs/CAUSES.md: every cause in the order in which they take from a request's time."""
    lines = [
        "# Causes",
        "",
        "What Layerline can blame a slow request on. A cause is one file in"
        " `correlator/layerline_correlator/ledger/causes/`;"
        " this page is made from their headers (`python docs/make.py`).",
        "Where two causes fit the same nanosecond, the one that stands first here takes it. What no cause takes is"
        " shown as *unexplained*.",
        "",
    ]
    for cause in all_causes():
        needs = "; ".join(" or ".join(f"`{fact}`" for fact in need) for need in cause.needs)
        lines += [
            f"## {cause.name}",
            "",
            f"*{cause.title}* — layer {cause.layer}",
            "",
            cause.means,
            "",
            f"* **Easily mistaken for:** {cause.mistaken_for}",
            f"* **What to try:** {cause.try_}",
            *(
                f"* **What to try {kind if kind.startswith('in ') else f'with a {kind}'}:** {what}"
                for kind, what in cause.try_for
            ),
            *([f"* **Changes that fit:** {', '.join(fit.change for fit in cause.fits)}."] if cause.fits else []),
            f"* **Needs:** {needs}. Without: blind, and the verdict says so; {cause.enable}.",
            f"* **Source:** {cause.source}",
            "",
        ]
    return "\n".join(lines)


def commands() -> str:
    """docs/COMMANDS.md: every command, from its file: what it is for, how it is called, how it ends."""
    found = all_commands()
    lines = [
        "# Commands",
        "",
        "`layerline COMMAND --help` says more of each. A command is one file in a folder `commands`; this page is made"
        " from their docstrings (`python docs/make.py`).",
        "",
    ]
    for name, command in found.items():
        usage, _, more = command.usage.partition("\n")
        paragraphs = [*command.about.partition("\n")[2].strip().split("\n\n"), *more.strip().split("\n\n")]
        lines += [f"## layerline {name}", "", _text(command.summary), ""]
        lines += ["```", usage.rstrip(".").strip("`"), "```", ""]
        for paragraph in filter(None, paragraphs):
            lines += [_text(paragraph), ""]
        if command.extra:
            lines += [f"Part of the extra `{command.extra}`.", ""]
    return "\n".join(lines)


def page(text: str) -> str:
    """docs/PAGE.md with its table of pages made anew: the address, and the docstring of the page's file."""
    rows = {
        re.sub(r"<(?:\w+:)?(\w+)>", lambda name: name[1].upper(), address): _text(module.__doc__ or "")
        for module in pages().values()
        for address in _addresses(module)
    }
    table = [f"| `{address}` | {shows} |" for address, shows in sorted(rows.items())]
    return _between("pages", text, "\n".join(["| page | shows |", "| --- | --- |", *table]), "docs/PAGE.md")


def _addresses(page: ModuleType) -> list[str]:
    """Where a page is, as it says itself. It is made without a server: nothing is asked of it."""
    app, blueprint = Flask("docs", static_folder=None), Blueprint("page", "docs")
    page.add(blueprint, None)
    app.register_blueprint(blueprint)
    addresses = [rule.rule for rule in app.url_map.iter_rules()]
    return [address for address in addresses if not address.startswith("/vendor/")]  # what pages are drawn with


def settings() -> str:
    """The table of settings: variable, default and meaning of each field that says them."""
    rows = [
        f"| `{setting.variable}` | {', '.join(setting.programs)} | {setting.default} | {'; '.join(setting.meanings)} |"
        for setting in (*known_settings().values(), CONFIG_SETTING)
    ]
    rows.sort()
    return "\n".join(["| variable | for | default | meaning |", "| --- | --- | --- | --- |", *rows])


def readme(text: str) -> str:
    """README.md, or docs/SETTINGS.md, with its table of settings made anew."""
    return _between("settings", text, settings(), "README.md or docs/SETTINGS.md")


def _between(what: str, text: str, made: str, name: str) -> str:
    """The text with this between its marks. ValueError when it has none."""
    begin, end = f"<!-- {what}: made by docs/make.py -->", f"<!-- /{what} -->"
    if begin not in text or end not in text:
        raise ValueError(f"{name}: expected {begin!r} and {end!r}")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{made}\n{rest[rest.index(end) :]}"


def _text(docstring: str) -> str:
    """A docstring's paragraph as Markdown, in one line: code in single backquotes, pages that it names as links."""
    line = re.sub(r"\s+", " ", docstring).strip().replace("``", "`")
    return re.sub(r"`layerline docs ([a-z_]+)`", lambda named: "[{0}.md]({0}.md)".format(named[1].upper()), line)


def main() -> int:
    """Write them all."""
    (ROOT / "docs/CAUSES.md").write_text(causes(), encoding="utf-8")
    (ROOT / "docs/SIGNALS.md").write_text(document(), encoding="utf-8")
    (ROOT / "docs/COMMANDS.md").write_text(commands(), encoding="utf-8")
    for path, made in (
        (ROOT / "README.md", readme),
        (ROOT / "docs/SETTINGS.md", readme),
        (ROOT / "docs/PAGE.md", page),
    ):
        path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
