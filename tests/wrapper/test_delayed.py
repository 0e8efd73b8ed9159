"""An instrumentation that would break the app at its start waits until the app is ready for it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from layerline import delayed

CONF = """
class LazySettings:
    configured = False

    def _setup(self, name=None):
        if self.broken:
            raise RuntimeError("settings are not configured")
        self.configured = True

    def configure(self, **options):
        self.configured = True

    broken = False

settings = LazySettings()
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stand-in for Django, which has settings that are set up later."""
    for name in [name for name in sys.modules if name == "django" or name.startswith("django.")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "django").mkdir()
    (tmp_path / "django/__init__.py").write_text("")
    (tmp_path / "django/conf.py").write_text(CONF)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("django.conf", "django"):
        sys.modules.pop(name, None)


def imported() -> ModuleType:
    return importlib.import_module("django.conf")


@pytest.mark.usefixtures("conf")
@pytest.mark.parametrize("how", ["_setup", "configure"])
def test_django_waits_for_its_settings(how: str) -> None:
    """It is applied once, right after the app's settings are there, however they came."""
    applied: list[bool] = []
    delayed.django(lambda: applied.append(imported().settings.configured))
    settings = imported().settings
    assert applied == []
    for _ in range(2):
        getattr(settings, how)()
    assert applied == [True]


@pytest.mark.usefixtures("conf")
def test_settings_that_are_there_are_not_waited_for() -> None:
    """Who starts the wrapper from code, behind its settings, has it applied at once."""
    imported().settings.configure()
    applied: list[int] = []
    delayed.django(lambda: applied.append(1))
    assert applied == [1]


@pytest.mark.usefixtures("conf")
def test_settings_that_fail_fail_as_without_us() -> None:
    """Without settings the app has its own exception, and nothing is applied."""
    applied: list[int] = []
    delayed.django(lambda: applied.append(1))
    settings = imported().settings
    settings.broken = True
    with pytest.raises(RuntimeError, match="not configured"):
        settings._setup()
    assert applied == []
