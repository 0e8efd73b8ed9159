"""Which settings are in force, and where each comes from: an argument, a variable, the settings file or the default.

It says what a program would take that is started now, by this user, with these variables. A server that runs may have
been started with others.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from layerline.configuration import BadSettings, InForce, in_force, place, usual_places
from layerline.parsing import Parser


def main(argv: Sequence[str]) -> int:
    """``layerline config [--config FILE] [--json]``.

    Secrets are masked. Exit codes: 0 printed, 2 the settings file cannot be used (the reason on stderr).
    """
    parser = Parser(prog="layerline config", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", metavar="FILE", help="the settings file (default LAYERLINE_CONFIG, else the usual)")
    parser.add_argument("--json", action="store_true", help="all settings, with what they mean")
    options = parser.parse_args(argv)
    try:
        settings = in_force(os.environ, options.config)
    except BadSettings as problem:
        print(f"layerline config: {problem}", file=sys.stderr)
        return 2
    path = place(os.environ, options.config)
    try:
        if options.json:
            document = {"file": path and str(path), "settings": [_as_json(one) for one in settings]}
            print(json.dumps(document, indent=2, ensure_ascii=False), flush=True)
        else:
            looked = ", ".join(map(str, usual_places()))
            print(f"settings file: {path or f'none (looked for {looked})'}\n")
            print(*_table(settings), sep="\n", flush=True)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _as_json(one: InForce) -> dict[str, object]:
    return {
        "key": one.setting.key,
        "variable": one.setting.variable,
        "for": list(one.programs),
        "value": None if one.value is None else one.shown,
        "origin": one.origin,
        "default": one.setting.default.replace("`", ""),
        "meaning": "; ".join(one.setting.meanings).replace("`", ""),
    }


def _table(settings: Sequence[InForce]) -> list[str]:
    rows = [("setting", "for", "origin", "value")]
    rows += [(one.setting.key, ", ".join(one.programs), one.origin, one.shown) for one in settings]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  ".join([*map(str.ljust, row[:3], widths), _printable(row[3])]) for row in rows]


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
