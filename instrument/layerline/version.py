"""Which Layerline this is: what the installed distribution says, which took it from the newest tag when it was built.

One place for `layerline --version`, ``layerline.__version__`` and the resource attribute ``layerline.version``.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

#: What is said where the code runs from a folder that is not installed. Later than nothing, earlier than any release.
UNKNOWN = "0+unknown"


def own_version() -> str | None:
    """The installed version; None when the code runs from a folder that is not installed."""
    try:
        return version("layerline")
    except PackageNotFoundError:
        return None
