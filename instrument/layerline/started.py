"""What ``layerline.start()`` does: the distro's three steps, from the app's own code."""

from __future__ import annotations

import os
import threading

from opentelemetry.instrumentation.auto_instrumentation._load import _load_instrumentors
from opentelemetry.instrumentation.version import __version__ as instrumentation_version

from layerline import guard
from layerline.distro import LayerlineConfigurator, LayerlineDistro
from layerline.settings import Settings
from layerline.uninstrumented import hints, look

_once = threading.Lock()
_started = False


def start(*, endpoint: str | None = None, token: str | None = None, capture: str | None = None) -> None:
    """See ``layerline.start``."""
    global _started
    with _once:
        if _started:
            return
        _started = True
        try:
            distro = LayerlineDistro()
            distro.configure()
            settings = Settings.read(endpoint=endpoint, token=token, capture=capture)
            configurator = LayerlineConfigurator()  # type: ignore[no-untyped-call]
            configurator.configure(  # type: ignore[no-untyped-call]
                settings=settings, auto_instrumentation_version=instrumentation_version
            )
            _load_instrumentors(distro)  # type: ignore[no-untyped-call]
            if settings.hints.strip().lower() != "off":
                for line in hints(look(), os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")):
                    guard.once(line, "%s (LAYERLINE_HINTS=off hides this)", line)
        except Exception:
            guard.failed("start")
