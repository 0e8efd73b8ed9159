"""What commands that ask have in common: where they ask, and how they end.

Exit codes: 0 answered, 1 nothing to answer with (the reason on stderr), 2 could not ask.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from layerline_api.names import clean
from layerline_api.settings import AskSettings
from layerline_api.why import CannotAsk, NoAnswer, Server


def ask(command: str, options: argparse.Namespace, question: Callable[[Server], None]) -> int:
    """Ask the server of ``options``; the exit code."""
    try:
        settings = AskSettings.of(options.server, options.token)
        question(Server(settings.server, settings.token))
    except NoAnswer as nothing:
        print(f"layerline {command}: {clean(nothing)}", file=sys.stderr)
        return 1
    except CannotAsk as problem:
        print(f"layerline {command}: {clean(problem)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def with_server(parser: argparse.ArgumentParser) -> None:
    """The options that say where to ask."""
    parser.add_argument("--json", action="store_true", help="the API's answer, unchanged")
    parser.add_argument("--server", metavar="URL", help=f"default LAYERLINE_SERVER, else {AskSettings().server}")
    parser.add_argument("--token", help="default LAYERLINE_TOKEN")
