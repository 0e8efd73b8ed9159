"""The pages in a real browser: they draw, lead on, complete tags, and run nothing that a stranger's telemetry says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import serving
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from shop import During, S, carts, happened, serve, throttled
from spans import a_while_ago, batch, series_rows, span_row

from browser import PATIENCE_S, complaints, every, follow
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings

pytestmark = pytest.mark.browser

EVIL = "<script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=1>"
FIRST_INCIDENT = "/incidents/first"
PAGES = (
    "/",
    "/timeline",
    "/timeline?q=service:web",
    "/service?service=web",
    "/map",
    "/containers?q=container:* cpu.time > 0.1%",
    "/?q=service:<script>",
    f"/requests/{'e' * 32}",
    FIRST_INCIDENT,
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose store has seven minutes of a shop, an incident, readings with a hole, and a hostile service."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("shop"), group_ns=1_000_000))
    zero_ns = a_while_ago(440)
    read = [second for second in range(420) if not 100 <= second < 200]
    cpu = {
        "signal": "container.cpu.time",
        "container": "stock-1",
        "at": [second * 1000 for second in read],
        "values": [second * 30 for second in read],
    }
    hostile = {"id": "e", "kind": "server", "ms": [0, 900], "service": EVIL, "name": EVIL, "container": "stock-1"}
    serve(
        correlator,
        carts(zero_ns, 420, During(330, 400, throttled), rate=1.5),
        [series_rows(cpu, zero_ns)],
        [happened("stock-1", EVIL, zero_ns + 329 * S)],
    )
    correlator.append(batch([span_row(hostile, "e" * 32, zero_ns + 300 * S)]))
    with serving(correlator, ServerSettings()) as url:
        yield url
    correlator.close()


@pytest.fixture(autouse=True)
def afresh(browser: Chrome) -> None:
    """What the console said before belongs to the test before."""
    complaints(browser)


def visit(browser: Chrome, shop: str, path: str) -> None:
    """Open a page."""
    browser.get(shop + ("/" if path == FIRST_INCIDENT else path))
    if path == FIRST_INCIDENT:
        browser.get(browser.find_element(By.CSS_SELECTOR, "a[href^='/incidents/']").get_attribute("href") or "")


def text_of(browser: Chrome) -> str:
    return every(browser, "main", "innerText")[0]


def test_from_the_incident_to_one_request(browser: Chrome, shop: str) -> None:
    """The first page names the incident; its page says why and draws it; from there one comes to a slow request."""
    browser.get(shop)
    follow(browser, browser.find_element(By.PARTIAL_LINK_TEXT, "held back by its CPU limit"))
    told = text_of(browser)
    for heading in ("What changed near its start", "First sign in each layer", "Without it", "How far it reaches"):
        assert heading in told
    areas = browser.find_elements(By.CSS_SELECTOR, ".strip.tall path.area.container")
    assert any(area.size["width"] > 20 and area.size["height"] > 20 for area in areas)
    follow(browser, browser.find_element(By.CSS_SELECTOR, "a[href^='/requests/']"))
    assert "where the time went" in text_of(browser)
    assert complaints(browser) == []


def test_a_rectangle_in_the_heatmap_says_what_its_requests_have_in_common(browser: Chrome, shop: str) -> None:
    """From the row of a service to its heatmap; drawing over all of it sends the form with times and durations."""
    browser.get(shop)
    follow(browser, browser.find_element(By.CSS_SELECTOR, ".services a[href*='service=web']"))
    heatmap = browser.find_element(By.ID, "heatmap")
    width, height = heatmap.size["width"], heatmap.size["height"]
    actions = ActionChains(browser).move_to_element_with_offset(heatmap, 5 - width // 2, 5 - height // 2)
    actions.click_and_hold().move_by_offset(width - 10, height - 10).release().perform()
    WebDriverWait(browser, PATIENCE_S).until(lambda _: "/shares?" in browser.current_url)
    WebDriverWait(browser, PATIENCE_S).until(lambda _: "have in common" in text_of(browser))
    for said in ("picked_from=20", "min_duration=", "max_duration="):
        assert said in browser.current_url
    assert complaints(browser) == []


def test_one_logs_in_with_the_token_and_out_again(browser: Chrome, tmp_path: Path) -> None:
    """A real browser keeps the cookie, sends its forms with their origin, and is out afterwards."""
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    with serving(correlator, ServerSettings(token="s3cret")) as url:  # noqa: S106 - a token of tests
        browser.get(f"{url}/map")
        field = browser.find_element(By.NAME, "token")
        field.send_keys("s3cret")
        follow(browser, browser.find_element(By.CSS_SELECTOR, "main button"))
        assert browser.current_url == f"{url}/map"
        assert browser.execute_script("return document.cookie") == ""
        follow(browser, browser.find_element(By.CSS_SELECTOR, "form[action='/logout'] button"))
        browser.get(f"{url}/map")
        assert browser.current_url.startswith(f"{url}/login")
        assert complaints(browser) == []
    correlator.close()


def test_keys_light_and_dark_and_looking_again(browser: Chrome, shop: str) -> None:
    """`?` shows the keys, `d` turns the colours and the next page keeps them; looking again leaves what is unfolded."""
    browser.get(shop)
    ActionChains(browser).send_keys("?").perform()
    assert "copy the address" in browser.find_element(By.TAG_NAME, "dialog").text
    ActionChains(browser).send_keys("?").perform()
    assert browser.find_elements(By.CSS_SELECTOR, "dialog[open]") == []
    before = browser.execute_script("return document.documentElement.dataset.theme ?? ''")
    browser.find_element(By.ID, "theme").click()
    theme = browser.execute_script("return document.documentElement.dataset.theme")
    assert theme in ("light", "dark")
    assert theme != before
    browser.get(f"{shop}/services")
    assert browser.execute_script("return document.documentElement.dataset.theme") == theme
    browser.delete_all_cookies()
    browser.get(shop)
    browser.execute_script("const one = document.querySelector('.group details'); one.open = true; one.dataset.old = 1")
    browser.set_script_timeout(PATIENCE_S)
    browser.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('layerline:shown', () => done(), { once: true });"
        "for (const key of 'rr') document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));"
    )
    assert every(browser, ".group details[open]", "id") == ["slow-1"]
    assert every(browser, ".group details[data-old]", "id") == []
    assert complaints(browser) == []


def test_a_gap_is_seen_as_a_gap(browser: Chrome, shop: str) -> None:
    """Where nobody looked, a strip shows that nobody looked, and its line has a hole there."""
    browser.get(f"{shop}/timeline?entity=container:stock-1")
    strip = browser.find_element(By.CSS_SELECTOR, "svg[aria-label^='cpu.time']")
    assert "not measured in" in (strip.get_attribute("aria-label") or "")
    gap = strip.find_elements(By.CSS_SELECTOR, "rect.gap")[-1]
    assert gap.size["width"] > 20
    path = strip.find_element(By.CSS_SELECTOR, "path.line").get_attribute("d") or ""
    assert path.count("M") == 2
    assert complaints(browser) == []


def test_tags_are_completed_and_choose(browser: Chrome, shop: str) -> None:
    """Keys and values come from what was received; Enter shows only what the tags select."""
    browser.get(shop)
    box = browser.find_element(By.NAME, "q")

    def offered() -> list[str]:
        return every(browser, "#tags option", "value")

    box.send_keys("-container:noisy ser")
    WebDriverWait(browser, PATIENCE_S).until(lambda _: "-container:noisy service:" in offered())
    box.send_keys("vice:sto")
    WebDriverWait(browser, PATIENCE_S).until(lambda _: offered() == ["-container:noisy service:stock"])
    box.send_keys("ck", Keys.ESCAPE, Keys.ENTER)
    WebDriverWait(browser, PATIENCE_S).until(lambda _: "q=-container%3Anoisy" in browser.current_url)
    WebDriverWait(browser, PATIENCE_S).until(
        lambda _: {one.split()[0] for one in every(browser, ".services tbody td:first-child", "innerText")} == {"stock"}
    )
    assert complaints(browser) == []


def test_what_is_wrong_with_a_query_is_pointed_at(browser: Chrome, shop: str) -> None:
    """The complaint stands beside the box, with a caret below the column; the box keeps what was written."""
    browser.get(f"{shop}/timeline?q=image:web (host:a")
    query, caret = browser.find_element(By.CSS_SELECTOR, ".complaint pre").text.split("\n")
    assert caret.index("^") >= query.index("host:a")
    box = browser.find_element(By.NAME, "q")
    assert box.get_attribute("value") == "image:web (host:a"
    assert box.get_attribute("aria-invalid") == "true"


@pytest.mark.parametrize("path", PAGES)
def test_names_from_outside_run_nothing(browser: Chrome, shop: str, path: str) -> None:
    """A service named <script> is text on every page: nothing runs, and the policy has nothing to forbid."""
    visit(browser, shop, path)
    assert browser.execute_script("return window.hacked") is None
    assert browser.find_elements(By.CSS_SELECTOR, "main img, main script") == []
    assert [one for one in complaints(browser) if "status of 400" not in one] == []
    if path in ("/", f"/requests/{'e' * 32}"):
        assert EVIL in text_of(browser)


@pytest.mark.parametrize("path", PAGES)
def test_pages_fit_a_telephone_and_the_dark(browser: Chrome, shop: str, path: str) -> None:
    """At 400 pixels nothing sticks out sideways; who asks for dark colours gets them."""
    for scheme, is_dark in (("light", False), ("dark", True)):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False},
        )
        visit(browser, shop, path)
        paper = browser.execute_script(
            "const c = document.createElement('canvas').getContext('2d');"
            "c.fillStyle = getComputedStyle(document.body).backgroundColor; c.fillRect(0, 0, 1, 1);"
            "return c.getImageData(0, 0, 1, 1).data[0]"
        )
        assert (paper < 128) is is_dark
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_reaches_the_content(browser: Chrome, shop: str) -> None:
    """The first stop of the keyboard leads past the navigation, and it is seen."""
    browser.get(shop)
    browser.switch_to.active_element.send_keys(Keys.TAB)
    first = browser.switch_to.active_element
    assert first.text == "to the content"
    assert first.location["x"] >= 0
