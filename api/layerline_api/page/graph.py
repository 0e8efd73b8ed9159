"""A layered layout of who calls whom: callers left of callees, few crossings, any circle of calls broken once.

Layers are those of the longest path (calls that close a circle left out); within a layer, nodes stand at the mean place
of their neighbours in the layers beside, which is found in a few sweeps (Sugiyama's method). Long calls pass through
places of their own in the layers between, so that they run around what stands there. It draws some dozens of nodes; the
libraries that do so are not kept up or draw in a browser.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)
Call = tuple[Node, Node]
#: A node, or a place that a long call passes through.
Place = tuple[object, int]

_SWEEPS = 8


def layered(
    nodes: Sequence[Node], calls: Iterable[Call[Node]]
) -> tuple[dict[Node, tuple[int, float]], dict[Call[Node], list[float]]]:
    """Where each node stands (its layer, and its row within it), and the rows that each call passes layer by layer.

    A call back to an earlier layer has the rows of its ends only.
    """
    wanted = [(caller, callee) for caller, callee in dict.fromkeys(calls) if caller != callee]
    forward = _without_circles(nodes, wanted)
    layer = _layers(nodes, forward)
    chains = {
        (caller, callee): [(caller, layer[caller])]
        + [((caller, callee), between) for between in range(layer[caller] + 1, layer[callee])]
        + [(callee, layer[callee])]
        for caller, callee in forward
    }
    row = _rows([(node, layer[node]) for node in nodes], list(chains.values()))
    places = {node: (layer[node], row[node, layer[node]]) for node in nodes}
    lines = {call: [row[place] for place in chain] for call, chain in chains.items()}
    back = {call: [places[call[0]][1], places[call[1]][1]] for call in wanted if call not in lines}
    return places, lines | back


def _without_circles(nodes: Sequence[Node], calls: Sequence[Call[Node]]) -> list[Call[Node]]:
    """The calls without those that lead back to a node on the way, in the order of a depth-first walk."""
    callees: dict[Node, list[Node]] = {node: [] for node in nodes}
    called = set()
    for caller, callee in calls:
        callees[caller].append(callee)
        called.add(callee)
    found: list[Call[Node]] = []
    done: set[Node] = set()
    for root in sorted(nodes, key=lambda node: node in called):  # those that nobody calls first
        if root in done:
            continue
        way, waiting = {root}, [(root, iter(callees[root]))]
        done.add(root)
        while waiting:
            node, rest = waiting[-1]
            for callee in rest:
                if callee not in way:
                    found.append((node, callee))
                    if callee not in done:
                        done.add(callee)
                        way.add(callee)
                        waiting.append((callee, iter(callees[callee])))
                        break
            else:
                waiting.pop()
                way.discard(node)
    return found


def _layers(nodes: Sequence[Node], calls: Sequence[Call[Node]]) -> dict[Node, int]:
    """How many calls lead to each node, on the longest way."""
    layer = dict.fromkeys(nodes, 0)
    for _ in nodes:
        changed = False
        for caller, callee in calls:
            if layer[callee] <= layer[caller]:
                layer[callee], changed = layer[caller] + 1, True
        if not changed:
            break
    return layer


def _rows(nodes: Sequence[Place], chains: Sequence[Sequence[Place]]) -> dict[Place, float]:
    """The row of each place: sorted in every layer by the mean of its neighbours, from left to right and back."""
    places = list(dict.fromkeys([*nodes, *(place for chain in chains for place in chain)]))
    beside: dict[Place, list[Place]] = {place: [] for place in places}
    for chain in chains:
        for left, right in pairwise(chain):
            beside[left].append(right)
            beside[right].append(left)
    by_layer: dict[int, list[Place]] = {}
    for place in places:
        by_layer.setdefault(place[1], []).append(place)
    row = {place: float(number) for of in by_layer.values() for number, place in enumerate(of)}
    numbers = sorted(by_layer)
    for sweep in range(_SWEEPS):
        for number in numbers if sweep % 2 == 0 else reversed(numbers):
            of = by_layer[number]
            side = -1 if sweep % 2 == 0 else 1
            of.sort(key=lambda place: _mean(place, [one for one in beside[place] if one[1] == number + side], row))
            row |= {place: float(number) for number, place in enumerate(of)}
    tallest = max((len(of) for of in by_layer.values()), default=0)
    return {
        place: at + (tallest - len(by_layer[place[1]])) / 2 for place, at in row.items()
    }  # each layer in the middle


def _mean(place: Place, neighbours: Sequence[Place], row: Mapping[Place, float]) -> float:
    return sum(row[one] for one in neighbours) / len(neighbours) if neighbours else row[place]
