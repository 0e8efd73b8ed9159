"""The parser of every command: argparse, which also says what a mistyped option may have been meant to be."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NoReturn

_UNKNOWN = "unrecognized arguments: "


def meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean why?`` where a known name is close to this one, else nothing."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


class Parser(argparse.ArgumentParser):
    """``argparse.ArgumentParser`` with suggestions. Only the standard library: `layerline run` uses it too."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and a message that names the option that is close to the one given."""
        if message.startswith(_UNKNOWN):
            options = [option for option in self._option_string_actions if option.startswith("--")]
            given = re.match(r"--[^\s=]+", message.removeprefix(_UNKNOWN))
            message += meant(given[0], options) if given else ""
        elif choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            message += meant(choice[1], re.findall(r"[\w.-]+", choice[2]))
        super().error(message)
