"""Judges the incident in a bundle again, from its raw data, and says whether the verdict is identical.

Exit codes: 0 identical, 1 it differs (what, on stdout), 2 not a bundle, or it could not be read or is too large.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from layerline import configuration
from layerline.parsing import Parser
from layerline_api.words.clean import clean
from layerline_correlator.incidents.bundle import BadBundle, canonical, opened
from layerline_correlator.incidents.replay import replay
from layerline_correlator.settings import Settings
from layerline_correlator.store.store import StoreInUse


def main(argv: Sequence[str]) -> int:
    """``layerline replay FILE [--store DIR] [--json]``."""
    parser = Parser(prog="layerline replay", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="from `layerline incidents ID --bundle FILE`")
    parser.add_argument("--store", type=Path, metavar="DIR", help="keep its data in this new store, to look around in")
    parser.add_argument("--json", action="store_true", help="the verdict worked out anew, in canonical JSON")
    options = parser.parse_args(argv)
    try:
        most = Settings.from_environment(configuration.below("serve", must=False)).series
    except ValueError as problem:
        print(f"layerline replay: {problem}", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="layerline-replay-") as folder, opened(options.file) as bundle:
            replayed = replay(bundle, Settings(store=options.store or Path(folder), series=most))
            incident, made_by = bundle.manifest["incident"], bundle.manifest.get("layerline")
    except (BadBundle, StoreInUse, OSError) as problem:
        print(f"layerline replay: {clean(problem)}", file=sys.stderr)
        return 2
    if options.json:
        print(canonical(replayed.verdict))
    if not replayed.differences:
        print(
            f"identical: {clean(incident.get('summary', 'the verdict'))}",
            file=sys.stderr if options.json else sys.stdout,
        )
        return 0
    out = sys.stderr if options.json else sys.stdout
    print(f"differs in {len(replayed.differences)} places", file=out)
    if made_by != version("layerline"):
        print(f"it was made by layerline {clean(made_by)}, this is {version('layerline')}", file=out)
    for path, recorded, found in replayed.differences:
        print(
            f"  {clean(path)}: recorded {clean(canonical(recorded))[:200]}, found {clean(canonical(found))[:200]}",
            file=out,
        )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
