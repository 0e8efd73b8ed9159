"""Every page in a real browser: from Now to each fault of the demo, zoom, share, come back, and without scripts.

One server has the five faults of the demo (``five_faults.py``). A test fails until a page that is added is listed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import pytest
import requests
from api_fake import full
from five_faults import FAULTS, SECONDS, Injected, opened
from live_server import serving
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from axe import axe, violations
from browser import PATIENCE_S, complaints, follow
from layerline_api.app import create_app
from layerline_api.demo.faults import all_faults
from layerline_api.settings import ServerSettings
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.times import rfc3339

pytestmark = pytest.mark.browser

#: Pages that are not listed in the menu, and what they are shown with below.
PAGES = {
    "/": "/?{window}",
    "/containers": "/containers?{window}",
    "/coverage": "/coverage?{window}",
    "/incidents": "/incidents?{window}",
    "/incidents/<incident>": "/incidents/{incident}",
    "/login": "/login",
    "/map": "/map?{window}",
    "/monitors": "/monitors",
    "/monitors/<monitor_id>": "/monitors/{monitor}",
    "/requests": "/requests?{window}",
    "/requests/<trace_id>": "/requests/{trace}",
    "/service": "/service?service=web&{window}",
    "/services": "/services?{window}",
    "/shares": "/shares?service=web&min_duration=200ms&{window}",
    "/timeline": "/timeline?service=web&{window}",
    "/traces/<trace_id>": "/traces/{trace}",
}
#: What is said of a page: its headings, how many rows its tables have, how many pictures, and what may be pressed.
WHAT_IT_HAS = (
    "const count = (what) => document.querySelectorAll('main ' + what).length;"
    "return [...document.querySelectorAll('main h1, main h2, main h3')].map((one) => one.textContent.trim())"
    ".concat(['tr', 'svg path', 'details', 'form', 'a[href]'].map((what) => what + ' ' + count(what)))"
)


@dataclass(frozen=True, slots=True)
class Shop:
    """A server with the five faults, and what there is to be asked for."""

    url: str
    names: dict[str, str]

    def page(self, rule: str) -> str:
        """The address of a page."""
        return self.url + PAGES[rule].format(**self.names)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    correlator, zero_ns = opened(tmp_path_factory.mktemp("shop"), rate=1.0)
    end_ns = zero_ns + SECONDS * 10**9
    with serving(correlator, ServerSettings()) as url:
        incidents = correlator.incidents.list(IncidentQuery(zero_ns, end_ns)).items
        throttled = next(one for one in incidents if one["cause"] == FAULTS[0].cause)
        whole = correlator.incidents.one(throttled["id"])
        assert whole is not None
        query = {"query": "container:* cpu.time > 0.1%", "name": "much CPU"}
        saved = requests.post(f"{url}/api/v1/monitors", json=query, timeout=PATIENCE_S).json()
        window = urlencode({"from": rfc3339(zero_ns), "to": rfc3339(end_ns)})
        names = {"window": window, "incident": throttled["id"], "trace": whole["examples"][0], "monitor": saved["id"]}
        yield Shop(url, names)
    correlator.close()


@pytest.fixture(scope="module")
def found_bad() -> str:
    """The script that looks for what people cannot use."""
    try:
        return axe()
    except (OSError, ValueError) as problem:
        pytest.fail(f"axe-core is not to be had: {problem}", pytrace=False)


@pytest.fixture(autouse=True)
def afresh(browser: Chrome) -> None:
    """What the console said before belongs to the test before."""
    complaints(browser)
    browser.set_script_timeout(PATIENCE_S)


def heading(browser: Chrome) -> str:
    """What stands first on a page."""
    return browser.find_element(By.CSS_SELECTOR, "main h1").text


def test_every_page_is_asked_for_here() -> None:
    """What the server shows to people is what is looked at below."""
    rules = {
        rule.rule
        for rule in create_app(full()).url_map.iter_rules()
        if rule.endpoint.startswith("page.") and "GET" in (rule.methods or ()) and "." not in rule.rule
    }
    assert {rule for rule in rules if not rule.startswith("/why")} == set(PAGES)  # those are text, to be copied


def test_each_fault_of_the_demo_is_here() -> None:
    """What is drawn is what the demo injects, in its order."""
    assert [one.cause for one in FAULTS] == [one.cause for one in all_faults()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.cause)
def test_from_now_to_the_cause_of_each_fault(browser: Chrome, shop: Shop, fault: Injected) -> None:
    """From Now one click leads to the incident, whose heading names cause and entity; another to a request with it."""
    titles = {
        one["cause"]: one["title"] for one in requests.get(f"{shop.url}/api/v1/causes", timeout=60).json()["items"]
    }
    browser.get(shop.page("/"))
    link = next(
        one
        for one in browser.find_elements(By.CSS_SELECTOR, "main .card a[href^='/incidents/']")
        if titles[fault.cause] in one.text and fault.entity in one.text
    )
    assert link.is_displayed()
    follow(browser, link)
    for said in (titles[fault.cause], fault.entity):
        assert said in heading(browser)
    follow(browser, browser.find_element(By.CSS_SELECTOR, "main a[href^='/requests/']"))
    for said in (titles[fault.cause], fault.entity):
        assert said in browser.find_element(By.CSS_SELECTOR, "main .answer").text
    assert complaints(browser) == []


def test_zoom_share_and_come_back(browser: Chrome, shop: Shop) -> None:
    """Dragging shows that time; the copied address shows the same to somebody else; back leads back to the incident."""
    incident = shop.page("/incidents/<incident>")
    browser.get(incident)
    summary = heading(browser)
    lane = ".picture .strip[data-top] .u-over"
    WebDriverWait(browser, PATIENCE_S).until(lambda _: browser.find_elements(By.CSS_SELECTOR, lane))
    over = browser.find_element(By.CSS_SELECTOR, lane)
    wide = over.size["width"] // 4
    drag = ActionChains(browser).move_to_element_with_offset(over, -wide, 0).click_and_hold()
    drag.move_by_offset(wide, 0).release().perform()
    WebDriverWait(browser, PATIENCE_S).until(lambda _: browser.current_url.startswith(f"{shop.url}/timeline?"))
    for said in ("service=web", "from=", "to="):
        assert said in browser.current_url
    WebDriverWait(browser, PATIENCE_S).until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".picture .strip"))
    browser.execute_script(
        "navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }"
    )
    browser.find_element(By.CSS_SELECTOR, "button[data-copy=link]").click()
    WebDriverWait(browser, PATIENCE_S).until(lambda _: browser.execute_script("return window.copied ?? ''"))
    copied, shown = browser.execute_script("return window.copied"), browser.execute_script(WHAT_IT_HAS)
    browser.switch_to.new_window("tab")
    browser.get(copied)
    assert browser.execute_script(WHAT_IT_HAS) == shown
    browser.close()
    browser.switch_to.window(browser.window_handles[0])
    browser.back()
    WebDriverWait(browser, PATIENCE_S).until(lambda _: browser.current_url == incident)
    WebDriverWait(browser, PATIENCE_S).until(lambda _: heading(browser) == summary)
    assert complaints(browser) == []


def test_what_people_cannot_use_is_found(browser: Chrome, shop: Shop, found_bad: str) -> None:
    """The search below finds a button without a name and pale words, so that finding nothing means something."""
    browser.get(shop.page("/login"))
    browser.execute_script(
        "const button = document.createElement('button'), pale = document.createElement('p');"
        "pale.textContent = 'pale words'; pale.style.color = '#ddd'; pale.style.background = '#fff';"
        "document.querySelector('main').append(button, pale);"
    )
    assert {one.split()[0] for one in violations(browser, found_bad)} == {"button-name", "color-contrast"}


@pytest.mark.parametrize("rule", PAGES)
def test_a_page_is_whole_by_itself(browser: Chrome, shop: Shop, found_bad: str, rule: str) -> None:
    """Nothing from elsewhere, nothing forbidden or broken, nothing people cannot use, and all there without scripts."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [colours("light")]})
    browser.get(shop.page(rule))
    with_scripts = browser.execute_script(WHAT_IT_HAS)
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert {f"{urlsplit(one).scheme}://{urlsplit(one).netloc}" for one in loaded} == {shop.url}
    assert complaints(browser) == []
    assert violations(browser, found_bad) == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [colours("dark")]})
    assert violations(browser, found_bad, "color-contrast") == []
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(shop.page(rule))
        assert browser.execute_script(WHAT_IT_HAS) == with_scripts
        assert not [
            one for one in browser.find_elements(By.TAG_NAME, "button") if one.is_displayed() and not sends(one)
        ]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def colours(scheme: str) -> dict[str, str]:
    return {"name": "prefers-color-scheme", "value": scheme}


def sends(button: object) -> bool:
    """Whether it sends a form: then it needs no script."""
    return bool(button.get_property("form")) and button.get_property("type") == "submit"  # type: ignore[attr-defined]
