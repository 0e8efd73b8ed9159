"""Remove the systemd service that `layerline install` made. Settings and data are kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from layerline.installing import KINDS, CannotInstall, as_root, shown, take, uninstall
from layerline.parsing import Parser


def main(argv: Sequence[str]) -> int:
    """``layerline uninstall agent|server [--dry-run]``.

    Exit codes: 0 done (or shown), 2 it cannot be done (the reason on stderr).
    """
    parser = Parser(prog="layerline uninstall", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=KINDS, help="what to remove")
    parser.add_argument("--dry-run", action="store_true", help="show every step, and change nothing")
    options = parser.parse_args(argv)
    steps = uninstall(options.kind)
    if options.dry_run:
        print(*map(shown, steps), sep="\n")
        return 0
    try:
        as_root()
        for step in steps:
            print(take(step), flush=True)
    except CannotInstall as problem:
        print(f"layerline uninstall: {problem}", file=sys.stderr)
        return 2
    print("kept: /etc/layerline, /var/lib/layerline, /var/lib/layerline-agent, and the user layerline")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
