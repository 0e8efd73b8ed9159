"""Names from outside, made fit to be shown: no control characters, no direction tricks, no surprises in width."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

#: A name as long as this is nobody's to read.
_LONG = re.compile(r"(\S{100})\S{21,}")


def clean(name: object) -> str:
    """The name with everything that is not visible replaced by ``�`` and whitespace by single spaces.

    Categories C* are controls, format characters (the direction overrides among them), surrogates and unassigned code
    points: none belongs into a name, and in a terminal some of them act.
    """
    text = " ".join(str(name).split())
    if text.isprintable():  # nothing of C*, nor a separator but the space: nearly every name
        return text
    return "".join("�" if unicodedata.category(char).startswith("C") else char for char in text)


def titles_of(causes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What each cause is called, by its name."""
    return {str(cause["cause"]): clean(cause["title"]) for cause in causes}


def brief(text: object) -> str:
    """A sentence in which names of kilobytes are cut after 100 characters."""
    return _LONG.sub(r"\1…", str(text))
