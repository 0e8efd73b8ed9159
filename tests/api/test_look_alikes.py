"""What a verdict could be mistaken for is held against what was measured, never against what is likely."""

from __future__ import annotations

from typing import Any

import pytest

from layerline_api.words.look_alikes import look_alikes

CAUSES = [
    {"cause": "container.cpu_throttled", "title": "held back",
     "mistaken_for": "A neighbour (host.cpu_contended): there … Slow code (app.cpu_busy). Another (app.nothing)."},
    {"cause": "host.cpu_contended", "title": "others ran", "mistaken_for": "A CPU limit (container.cpu_throttled)."},
    {"cause": "app.cpu_busy", "title": "computed", "mistaken_for": ""},
]  # fmt: skip


def verdict(*parts: tuple[str, int], blind: tuple[str, ...] = (), blamed: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "ranked_by": "excess",
        "excess_ns": 1000,
        "duration_ns": 2000,
        "parts": [{"cause": cause, "lost_ns": 5 + excess, "excess_ns": excess} for cause, excess in parts],
        "blind": [{"cause": cause, "reason": "no run queue", "enable": "run the agent"} for cause in blind],
        "culprits": [{"cause": cause} for cause in ("container.cpu_throttled", *blamed)],
    }


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        (verdict(), [("host.cpu_contended", "ruled out"), ("app.cpu_busy", "ruled out")]),
        (verdict(("app.cpu_busy", 0)), [("host.cpu_contended", "ruled out"), ("app.cpu_busy", "ruled out")]),
        (verdict(blind=("host.cpu_contended",)), [("host.cpu_contended", "open"), ("app.cpu_busy", "ruled out")]),
        (verdict(("app.cpu_busy", 200)), [("host.cpu_contended", "ruled out"), ("app.cpu_busy", "a part of it")]),
        (verdict(blamed=("host.cpu_contended",)), [("app.cpu_busy", "ruled out")]),
    ],
)
def test_only_what_could_have_been_seen_is_ruled_out(judged: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Took nothing, and was measured: ruled out. Not measured: open, never ruled out. Blamed as well: not listed."""
    assert [(one.cause, one.state) for one in look_alikes(judged, CAUSES)] == expected


def test_what_is_open_says_how_to_close_it() -> None:
    """The reason and what to enable, and of a part its share."""
    open_one, part = look_alikes(verdict(("app.cpu_busy", 200), blind=("host.cpu_contended",)), CAUSES)
    assert open_one.because == "no run queue. To see it: run the agent"
    assert part.because == "it took 20 % of the excess"
