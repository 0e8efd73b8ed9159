"""Lanes and waterfalls in a real browser: one cursor, zooming by dragging, the same without scripts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_server import serving
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from spans import a_while_ago, batch, series_rows, span_row

from browser import PATIENCE_S, complaints, every
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings

pytestmark = pytest.mark.browser

TRACE = "c" * 32
LANE = ".strip:has(> svg[aria-label^='cpu.time'])"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with one request of a container that was read each second, but for a hole."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("shop"), group_ns=1_000_000))
    zero_ns = a_while_ago(400)
    read = [second for second in range(300) if not 100 <= second < 160]
    used = {
        "signal": "container.cpu.time",
        "container": "web-1",
        "at": [second * 1000 for second in read],
        "values": [second * 250 for second in read],
    }
    spans = [
        {"id": "r", "kind": "server", "name": "GET /cart", "container": "web-1", "ms": [0, 3000], "cpu": 2000,
         "slices": [[0, 2900, 2000, 0]]},
        {"id": "c", "parent": "r", "kind": "client", "name": "GET", "container": "web-1", "ms": [2900, 3000], "cpu": 0},
    ]  # fmt: skip
    correlator.append(
        batch([span_row(one, TRACE, zero_ns + 200 * 10**9) for one in spans], [series_rows(used, zero_ns)])
    )
    with serving(correlator, ServerSettings()) as url:
        yield url
    correlator.close()


def over(browser: Chrome) -> None:
    """Wait until a cursor lies over the lane."""
    WebDriverWait(browser, PATIENCE_S).until(lambda _: browser.find_elements(By.CSS_SELECTOR, f"{LANE} .u-over"))


def test_the_cursor_reads_what_is_drawn(browser: Chrome, shop: str) -> None:
    """Over a measured step it says its value, over a gap that nobody measured there, and when that was."""
    complaints(browser)
    browser.get(f"{shop}/timeline?entity=container:web-1")
    over(browser)
    said = []
    for gap in (False, True):
        lane = browser.find_element(By.CSS_SELECTOR, f"{LANE} .u-over")
        share = browser.execute_script(
            "const strip = document.querySelector(arguments[1] + ' > svg');"
            "const [x, , width] = strip.getAttribute('viewBox').split(' ').map(Number);"
            "const gaps = [...strip.querySelectorAll('rect.gap')].map((one) => one.getBBox());"
            "const middle = gaps.find((one) => one.x > 0 && one.x + one.width < width - 1);"
            "return ((arguments[0] ? middle.x + middle.width / 2 : middle.x - 4) - x) / width",
            gap,
            LANE,
        )
        across = round((share - 0.5) * lane.size["width"])
        ActionChains(browser).move_to_element_with_offset(lane, across, 0).perform()
        said.append(every(browser, f"{LANE} .number", "textContent")[0])
        assert every(browser, ".axis .now", "textContent")[0].count(":") == 2
    assert said == ["0.25 CPUs", "not measured"]
    assert complaints(browser) == []


def test_dragging_chooses_a_time_and_back_leads_back(browser: Chrome, shop: str) -> None:
    """What is dragged over is what the next page shows, of the same container."""
    address = f"{shop}/timeline?entity=container:web-1"
    browser.get(address)
    over(browser)
    lane = browser.find_element(By.CSS_SELECTOR, f"{LANE} .u-over")
    start = ActionChains(browser).move_to_element_with_offset(lane, -lane.size["width"] // 4, 0)
    start.click_and_hold().move_by_offset(lane.size["width"] // 4, 0).release().perform()
    WebDriverWait(browser, PATIENCE_S).until(lambda _: "from=" in browser.current_url)
    assert "entity=container" in browser.current_url
    browser.back()
    WebDriverWait(browser, PATIENCE_S).until(lambda _: browser.current_url == address)


@pytest.mark.parametrize("path", [f"/requests/{TRACE}", "/timeline?entity=container:web-1"])
def test_it_is_all_there_without_scripts(browser: Chrome, shop: str, path: str) -> None:
    """With scripts off the rows and lanes are drawn, a row unfolds, and nothing is left for a script to fill in."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(shop + path)
        lanes = browser.find_elements(By.CSS_SELECTOR, ".strip[data-top] > svg path")
        assert lanes
        assert browser.find_elements(By.CSS_SELECTOR, ".uplot") == []
        if path.startswith("/requests"):
            row = browser.find_element(By.CSS_SELECTOR, "details.row")
            row.find_element(By.TAG_NAME, "summary").click()
            assert "Its own time on the critical path" in row.text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert complaints(browser) == []
