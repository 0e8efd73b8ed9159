"""What a shell may complete a command line with (``layerline completion``): argcomplete asks the command's own parser.

Options, choices and files follow from the parsers. Names come from the server that ``--server`` or ``LAYERLINE_SERVER``
names, which has a second: who presses Tab does not wait, and nothing is proposed without it.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import argcomplete
from argcomplete.lexers import split_line

from layerline import configuration
from layerline.command import Command
from layerline.commands import docs
from layerline.parsing import Parser
from layerline.signals import SIGNALS
from layerline_api import known
from layerline_api.asking import CannotAsk, Server, chosen_server, services_of

#: How long the server may take to accept and to answer, in seconds.
PATIENCE_S = (0.5, 1.0)

Proposals = Iterable[str] | Mapping[str, str]


def _asked(find: Callable[[Server, str, argparse.Namespace], Proposals]) -> Callable[..., Proposals]:
    """A completer that asks the server."""

    def propose(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> Proposals:
        try:
            return find(chosen_server(parsed_args, PATIENCE_S), prefix, parsed_args)
        except (
            configuration.BadSettings,
            CannotAsk,
            LookupError,
            TypeError,
            AttributeError,
        ):  # not reached, or not Layerline
            return []

    return propose


#: By the name under which a parser keeps an argument.
COMPLETERS: dict[str, Callable[..., Proposals]] = {
    "service": _asked(lambda server, _, __: services_of(server)),
    "operation": _asked(lambda server, _, options: known.operations(server, getattr(options, "service", None))),
    "tag": _asked(lambda server, prefix, _: known.tags(server, prefix)),
    "trace_id": _asked(lambda server, _, __: known.traces(server)),
    "id": _asked(lambda server, _, __: known.incidents(server)),
    "entity": _asked(lambda server, _, __: known.entities(server)),
    "signal": lambda **_: [signal.name for signal in SIGNALS],
    "since": lambda **_: ["15m", "1h", "6h", "24h"],
    "against": lambda **_: ["yesterday", "last-week"],
}
#: Of one command only: other commands call something else so.
OF_A_COMMAND: dict[tuple[str, str], Callable[..., Proposals]] = {
    ("docs", "name"): lambda **_: {name: docs.title(page) for name, page in docs.pages().items()},
}


def complete(commands: Mapping[str, Command]) -> int:
    """Answer the shell, which says in variables what was typed and where the cursor is (argcomplete's protocol)."""
    words = split_line(os.environ.get("COMP_LINE", ""), int(os.environ.get("COMP_POINT", "0")))[3]
    name = words[1] if len(words) > 1 else None
    if name is None:
        parser = Parser(prog="layerline")
        parser.add_argument("--version", action="store_true")
        found = {one.name: one.summary for one in commands.values()}
        setattr(parser.add_argument("command"), "completer", lambda **_: found)  # noqa: B010 - argcomplete's own way
        argcomplete.autocomplete(parser, always_complete_options=False)
        return 0
    if name not in commands:
        return 0
    os.environ["_ARGCOMPLETE"] = "2"  # the command's own words begin with the second

    def propose(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        _fit(parser, name)
        argcomplete.autocomplete(parser, always_complete_options="long")

    # This process answers the shell and ends: what a command would do with its arguments is not to happen.
    argparse.ArgumentParser.parse_args = propose  # type: ignore[method-assign, assignment]
    try:
        importlib.import_module(commands[name].module).main([])
    except ImportError:  # its extra is not installed
        return 0
    return 0


def _fit(parser: argparse.ArgumentParser, command: str) -> None:
    """Give the parser's arguments, and those of the parsers below it, their completers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _fit(below, command)
        completer = OF_A_COMMAND.get((command, action.dest), COMPLETERS.get(action.dest))
        if completer is not None:
            setattr(action, "completer", completer)  # noqa: B010 - argcomplete's own way
