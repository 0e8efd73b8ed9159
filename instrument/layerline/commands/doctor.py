"""Is everything in place? One line for each check, with what cures what it found.

It looks at this machine, at the server, and at the environment it is installed in, and changes nothing. Run it as the
user, with the variables, and (for an app) in the environment of the program that it shall be about.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from layerline.doctor import PROBLEM, Context, Finding, examine
from layerline.parsing import Parser


def main(argv: Sequence[str]) -> int:
    """``layerline doctor [--config FILE] [--json]``.

    `problem`: something does not work. `advice`: it works, and something cannot be seen that could be. `unknown`: it
    could not be looked at. Exit codes: 0 no problem, 1 at least one.
    """
    parser = Parser(prog="layerline doctor", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", metavar="FILE", help="the settings file (`layerline config`)")
    parser.add_argument("--json", action="store_true", help="one document: checks (check, state, found, cure), and ok")
    options = parser.parse_args(argv)
    found: list[tuple[str, Finding]] = []
    for name, title, finding in examine(Context(config=options.config)):
        found.append((name, finding))
        if not options.json:
            print(*_lines(title, finding), sep="\n", flush=True)
    ok = all(finding.state != PROBLEM for _, finding in found)
    if options.json:
        checks = [{"check": name, "state": one.state, "found": one.found, "cure": one.cure} for name, one in found]
        print(json.dumps({"ok": ok, "checks": checks}, indent=2, ensure_ascii=False), flush=True)
    return 0 if ok else 1


def _lines(title: str, finding: Finding) -> list[str]:
    shown = [f"{finding.state:<8} {title:<17} {_printable(finding.found)}"]
    return shown + ([f"{'':<26} cure: {_printable(finding.cure)}"] if finding.cure else [])


def _printable(text: str) -> str:
    """Without control characters: names come from outside."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
