"""A real Chromium for tests of the pages, or a visible reason why there is none.

A test that needs it is marked ``browser`` and takes the fixture ``browser`` (which a room's conftest.py imports)::

    @pytest.mark.browser
    def test_…(browser: Chrome) -> None: …

Without Chromium and its driver such a test is skipped and says why; with ``CI=true`` it fails, because ``.ci/run``
installs both. The browser knows no address but this machine's, and keeps what its console said for ``complaints``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
DRIVER = ("chromedriver", "/usr/lib/chromium-browser/chromedriver")
PATIENCE_S = 60


def _found(names: tuple[str, ...]) -> str:
    """Where the first of them is. FileNotFoundError where none is."""
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    raise FileNotFoundError(f"none of {', '.join(names)} is installed")


def open_browser(profile: Path) -> Chrome:
    """A headless browser with a profile of its own. FileNotFoundError or WebDriverException where there is none."""
    options = ChromeOptions()
    options.binary_location = _found(CHROMIUM)
    for argument in (
        "headless=new",
        "no-sandbox",  # as root there is none
        "disable-dev-shm-usage",  # small in containers
        "disable-gpu",
        "window-size=1300,1200",
        f"user-data-dir={profile}",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Chrome(options=options, service=ChromeService(_found(DRIVER)))


def complaints(browser: Chrome) -> list[str]:
    """What the console said since it was last asked: errors of scripts, what the policy forbade, what was not found."""
    return [str(entry["message"]) for entry in browser.get_log("browser")]


def every(browser: Chrome, selector: str, property_: str) -> list[str]:
    """One property of all that the selector finds, read in one go: no redraw can come between."""
    script = "return [...document.querySelectorAll(arguments[0])].map((one) => String(one[arguments[1]]))"
    return [str(one) for one in browser.execute_script(script, selector, property_)]


def follow(browser: Chrome, link: WebElement) -> None:
    """Click it, and wait until the page that it stood on is gone and the next one is whole."""
    link.click()
    wait = WebDriverWait(browser, PATIENCE_S)
    wait.until(staleness_of(link))
    wait.until(lambda _: browser.execute_script("return document.readyState") == "complete")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser for the tests of one file."""
    try:
        found = open_browser(tmp_path_factory.mktemp("profile"))
    except (FileNotFoundError, WebDriverException) as problem:
        reason = f"no Chromium: {problem}"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason} (CI=true: not skipped)", pytrace=False)
        pytest.skip(reason)
    yield found
    found.quit()
