"""Score verdicts about labelled cases (recordings or stores), beside what the simplest rules say of the same data.

Exit codes: 0 scored, 1 some case could not be judged, 2 there is no case, or a label or its data could not be read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import duckdb
from rich.console import Console

from layerline import configuration
from layerline.parsing import Parser
from layerline_api.evaluate.cases import all_said
from layerline_api.evaluate.labels import BadLabel, Label, labels_below
from layerline_api.evaluate.score import Figures, Said, Score, score, summarise
from layerline_api.words.clean import clean
from layerline_correlator.settings import Settings


def main(argv: Sequence[str]) -> int:
    """``layerline evaluate [--json] FOLDER``."""
    parser = Parser(prog="layerline evaluate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with cases and their labels in or below it")
    parser.add_argument("--json", action="store_true", help="a line for each case, then one with the figures")
    options = parser.parse_args(argv)
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    scores: list[Score] = []
    floors: dict[str, list[Score]] = {}
    try:
        labels = labels_below(options.folder)
        if not labels:
            raise BadLabel(f"{options.folder}: expected label.toml, label.json or labels.jsonl in or below it")
        settings = Settings.from_environment(configuration.below("serve", must=False))
        for label, said, named in all_said(labels, settings, lambda text: console.print(f"  … {clean(text)}")):
            scores.append(score(label, said))
            for title, names in named.items():
                floors.setdefault(title, []).append(score(_by_entity(label), Said(names, (), bool(names))))
            _report(scores[-1], as_json=options.json)
    except (BadLabel, ValueError, OSError, RuntimeError, duckdb.Error) as problem:
        print(f"layerline evaluate: {clean(problem)}", file=sys.stderr)
        return 2
    figures = summarise(scores)
    if options.json:
        beside = {title: summarise(found).first_entity for title, found in floors.items()}
        print(json.dumps({"figures": asdict(figures), "floors_first_entity": beside}))
    else:
        print("\n".join(_table(figures, {title: summarise(found) for title, found in floors.items()})))
    return 1 if any(one.said.failure for one in scores) else 0


def _by_entity(label: Label) -> Label:
    """What the floors are judged by: they know no cause, and no size."""
    nothing = {"cause": None, "also": (), "layer": None, "ms": None}
    return label.model_copy(update={"faults": tuple(fault.model_copy(update=nothing) for fault in label.faults)})


def _report(one: Score, *, as_json: bool) -> None:
    """A line for one case."""
    label, said = one.label, one.said
    first = said.culprits[0] if said.culprits else None
    if as_json:
        print(
            json.dumps(
                {
                    "case": label.name,
                    "right": one.right,
                    "first": first and {"cause": first.cause, "entity": first.entity_name, "id": first.entity_id},
                    "first_entity": one.first_entity,
                    "third_entity": one.third_entity,
                    "first_layer": one.first_layer,
                    "abstained": one.abstained,
                    "false_blame": one.false_blame,
                    "incidents": said.incidents,
                    "error_ns": one.error_ns,
                    "set_aside": label.set_aside,
                    "failure": said.failure,
                }
            )
        )
        return
    mark = "·" if label.set_aside else "✓" if one.is_hit else "✗"
    named = f"{first.cause} {first.entity_name}" if first else "nobody"
    why = label.set_aside or said.failure or ""
    sure = "" if said.conclusive else ", not conclusive"
    print(f"{mark} {clean(label.name)}: {clean(named)}{sure} {clean(why)}".rstrip())


def _table(figures: Figures, floors: Mapping[str, Figures]) -> Iterator[str]:
    """The figures, what is right first."""
    aside = f", {figures.set_aside} set aside" if figures.set_aside else ""
    yield f"\n{figures.faulty} cases with a fault, {figures.quiet} quiet ones{aside}"
    rows = {
        "right: first, whole and conclusive": figures.right,
        "cause and entity first (AC@1)": figures.first,
        "entity first (AC@1)": figures.first_entity,
        "entity among the first three (AC@3)": figures.third_entity,
        "layer first (AC@1)": figures.first_layer,
        "layer among the first three (AC@3)": figures.third_layer,
        "nobody named, or not conclusive": figures.abstained,
        "quiet: somebody blamed": figures.false_blame,
        "quiet: an incident": figures.false_incidents,
    }
    for title, value in rows.items():
        yield f"  {title:<38}{_percent(value):>7}"
    if figures.median_error_ns is not None and figures.median_error_ratio is not None:
        ratio = _percent(figures.median_error_ratio)
        yield f"  {'error of the blamed time, median':<38}{figures.median_error_ns / 1e6:>4.0f} ms ({ratio.strip()})"
    if floors:
        yield "beside it, by simple rules that know no cause: entity first, among the first three"
    for title, found in floors.items():
        yield f"  {title:<38}{_percent(found.first_entity):>7}{_percent(found.third_entity):>7}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
