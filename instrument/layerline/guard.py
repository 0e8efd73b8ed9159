"""Our own failures: logged once and swallowed in users' processes, raised again under pytest.

A wrapper lives in somebody else's process and must never break it. So every hook that the application's threads run
through ends in ``except Exception: guard.failed("where")``. One line per place is enough to file a bug; a thousand a
second would be an outage of their log. Under pytest the same failure is raised, so that ours cannot hide from us.
"""

from __future__ import annotations

import logging
import os
import sys

logger = logging.getLogger("layerline")

_said: set[str] = set()


def failed(where: str) -> None:
    """Deal with the exception being handled: raise it under pytest, else log it the first time ``where`` fails."""
    if "PYTEST_VERSION" in os.environ:
        raise  # the exception that our caller is handling
    error = sys.exc_info()[1]
    once(
        where, "%s failed and is skipped from now on where it fails; the application is not affected: %r", where, error
    )


def once(key: str, message: str, *arguments: object) -> None:
    """Log a warning the first time that ``key`` is seen in this process, and never again."""
    if key not in _said:
        _said.add(key)
        logger.warning(message, *arguments)
