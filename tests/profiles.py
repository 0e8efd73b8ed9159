"""How many examples hypothesis draws: few by default, many with ``HYPOTHESIS_PROFILE=thorough`` (``make fuzz``).

With ``CI=true`` the same examples are drawn each time, so that a red run is somebody's doing.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def load() -> None:
    """Settle it for this process. No test has a deadline: how fast the machine is must not matter."""
    set_hypothesis_home_dir(Path(__file__).parent.parent / ".hypothesis")  # wherever pytest was started
    settings.register_profile(
        "layerline",
        deadline=None,
        max_examples=1_000 if THOROUGH else 50,
        derandomize=os.environ.get("CI") == "true" and not THOROUGH,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("layerline")


def examples(few: int, many: int) -> int:
    """``max_examples`` of a test whose examples are dear."""
    return many if THOROUGH else few
