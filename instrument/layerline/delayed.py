"""Instrumentations that would break the app if they were applied at its start, and when they can be applied.

Django's reads the settings at once. Without ``DJANGO_SETTINGS_MODULE``, which a usual ``wsgi.py`` or ``manage.py``
sets itself, it configures empty ones in their place, and every page is an error 500. With it, the settings would be
imported before the app has read its secrets, or in gunicorn's master. So it waits until the app itself has its
settings, which is before Django builds its handler.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import wrapt

from layerline import guard

Apply = Callable[[], None]


def django(apply: Apply) -> None:
    """Apply it as soon as the settings are there: loaded from their module, or by ``settings.configure()``."""
    pending = [apply]

    def ready() -> None:
        while pending:
            pending.pop()()

    def after(wrapped: Any, _: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        result = wrapped(*arguments, **named)
        try:
            ready()
        except Exception:
            guard.failed("delayed.django")
        return result

    def hook(conf: ModuleType) -> None:
        try:
            if conf.settings.configured:
                ready()
                return
            for method in ("_setup", "configure"):
                wrapt.wrap_function_wrapper(conf, f"LazySettings.{method}", after)
        except Exception:
            guard.failed("delayed.django")

    wrapt.register_post_import_hook(hook, "django.conf")


#: By the name of the instrumentation.
DELAYED: Final[dict[str, Callable[[Apply], None]]] = {"django": django}
