"""A plugin of pytest: lets the tests have the extension that ``tools/sanitize.py`` has built."""

from __future__ import annotations

import importlib.util
import os
import sys

_spec = importlib.util.spec_from_file_location("layerline._fast", os.environ["LAYERLINE_SANITIZED"])
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
sys.modules["layerline._fast"] = _module
