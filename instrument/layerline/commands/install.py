"""Install agent or server as a systemd service of this machine: a user, a hardened unit, a settings file.

The service runs the `layerline` of the environment that this command is in; one such as /opt/layerline is seen by it.
The token is taken from LAYERLINE_TOKEN, and written where only root and the service can read it. A settings file that
is there is kept as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from layerline.installing import KINDS, SETTINGS, CannotInstall, as_root, install, program, settings, shown, take
from layerline.parsing import Parser


def main(argv: Sequence[str]) -> int:
    """``layerline install agent|server [--endpoint URL] [--tag key:value]… [--listen HOST:PORT]… [--dry-run]``.

    Exit codes: 0 done (or shown), 2 it cannot be installed here (the reason on stderr).
    """
    parser = Parser(prog="layerline install", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=KINDS, help="what to install")
    parser.add_argument("--endpoint", default="", metavar="URL", help="agent: the server, such as https://obs:4318")
    parser.add_argument("--tag", action="append", default=[], metavar="KEY:VALUE", help="agent: such as zone:a")
    parser.add_argument("--listen", action="append", default=[], metavar="HOST:PORT", help="server: for HTTP")
    parser.add_argument("--dry-run", action="store_true", help="show every step and file, and change nothing")
    parser.add_argument("--no-start", action="store_true", help="enable it, but do not start it now")
    options = parser.parse_args(argv)
    try:
        token = os.environ.get("LAYERLINE_TOKEN", "")
        content = settings(options.kind, options.endpoint, token, options.tag, options.listen)
        steps = install(options.kind, program(), content, start=not options.no_start)
        if options.dry_run:
            print(*map(shown, steps), sep="\n")
            return 0
        as_root()
        if not Path("/run/systemd/system").is_dir():
            raise CannotInstall("this machine does not run systemd; `layerline docs install` has other ways")
        for step in steps:
            print(take(step), flush=True)
    except CannotInstall as problem:
        print(f"layerline install: {problem}", file=sys.stderr)
        return 2
    print(f"settings: {SETTINGS}; log: journalctl -u layerline-{options.kind}; is all well: layerline doctor")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
