"""Show it: a small shop in containers, one real fault after another, and what Layerline says about each.

It shows server and agent, so it needs both: ``pip install 'layerline[agent,server]'``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from layerline.parsing import Parser


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    arguments = Parser(
        prog="layerline demo",
        description=(__doc__ or "").partition("\n")[0],
        epilog="Nothing is pulled, nothing stays. Exit codes: 0 every fault that this machine allows was blamed on its "
        "own cause with the right milliseconds; 1 one was not; 2 the demo could not run.",
    )
    arguments.add_argument("--keep", action="store_true", help="leave it running afterwards, until Ctrl-C, to explore")
    arguments.add_argument("--plain", action="store_true", help="plain processes, even where containers are possible")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """``layerline demo [--keep] [--plain]``."""
    options = parser().parse_args(argv)
    missing = [module for module in ("docker", "waitress", "rich", "duckdb") if find_spec(module) is None]
    if missing:
        print(
            f"layerline demo shows the server and the agent, and {missing[0]} is not installed: "
            "pip install 'layerline[agent,server]'",
            file=sys.stderr,
        )
        return 2
    from layerline_api.demo.show import show  # what it imports may be missing: asked first

    return show(keep=options.keep, plain=options.plain)
