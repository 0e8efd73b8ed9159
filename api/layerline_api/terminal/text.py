"""Lines of text at a terminal: as wide as it is, colours only where they are wanted, long answers in a pager.

What goes into a pipe or a file is 80 columns wide and has no colours.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

#: Narrower than this a ledger has no room for its numbers; wider, sentences are hard to read.
_NARROWEST, _WIDEST = 60, 120
_USUAL = 80


def _width() -> int:
    """The terminal's columns, within bounds."""
    if not sys.stdout.isatty():
        return _USUAL
    return max(_NARROWEST, min(shutil.get_terminal_size((_USUAL, 24)).columns, _WIDEST))


#: Looked up once: a command prints one answer and ends.
WIDTH = _width()
#: The pages have the same (page/style.css). Red is kept for what failed or is not as usual.
LAYER_STYLE = {
    "app": "blue",
    "dependency": "magenta",
    "network": "cyan",
    "container": "yellow",
    "host": "green",
}
_UNIT = re.compile(r"(?<=\d) (?=(?:ms|µs|s|min)\b|%)")
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_lines(lines: Sequence[Text]) -> None:
    """For people."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the bars' characters gets question marks
    console = Console(width=WIDTH, highlight=False, markup=False, emoji=False)
    if sys.stdout.isatty() and len(lines) >= shutil.get_terminal_size().lines:
        # As git does: less shows colours, leaves the answer on the screen, and ends where it fits after all.
        os.environ.setdefault("LESS", "FRX")
        with console.pager(styles=True):
            show(lines, console)
    else:
        show(lines, console)
    sys.stdout.flush()


def show(lines: Iterable[Text], console: Console) -> None:
    """Print the lines as they are."""
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False, highlight=False)


def wrapped(text: str, indent: int = 0, style: str = "") -> list[Text]:
    """The text in lines of at most ``WIDTH`` columns, broken between words.

    Words that are too long are broken themselves. A number stays with its unit.
    """
    text = _UNIT.sub("\N{NO-BREAK SPACE}", text)
    room = WIDTH - indent
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= room:
            line = joined
            continue
        if line:
            lines.append(line)
        while cell_len(word) > room:
            head = set_cell_size(word, room).rstrip()
            lines.append(head)
            word = word[len(head) :]
        line = word
    lines.append(line)
    return [Text(" " * indent + one.replace("\N{NO-BREAK SPACE}", " "), style=style) for one in lines]


def cut(text: str, width: int) -> str:
    """The text in at most ``width`` columns, ending in … where something was left out."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def fitted(text: str, width: int) -> Text:
    """The same as a ``Text``."""
    return Text(cut(text, width))


def bar(share: float, width: int) -> str:
    """A share of ``width`` cells, to an eighth of a cell; something that is not nothing is always seen."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0:
        eighths = max(1, eighths)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
