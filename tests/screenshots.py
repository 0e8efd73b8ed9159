"""Pictures of every page, light, dark and on a phone: ``make screenshots`` (``make screenshots TO=FOLDER``).

They are taken of a shop that was made up, with the five faults of the demo (tests/api/five_faults.py). They are for
looking at; nothing compares them. Those of README.md and docs/PAGE.md are made anew in docs/pictures.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

for folder in ("", "api", "correlator"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

from five_faults import FAULTS, SECONDS, opened  # noqa: E402 - the tests' own modules, which are found from here on
from live_server import serving  # noqa: E402
from selenium.webdriver import Chrome  # noqa: E402

from browser import open_browser  # noqa: E402
from layerline_api.settings import ServerSettings  # noqa: E402
from layerline_correlator.questions.incidents import IncidentQuery  # noqa: E402

PAGES = {
    "now": "/",
    "incidents": "/incidents",
    "incident": "/incidents/{incident}",
    "requests": "/requests",
    "request": "/requests/{request}",
    "services": "/services",
    "service": "/service?service=web",
    "operation": f"/service?service=web&operation={quote('GET /cart')}",
    "shares": "/shares?service=web&min_duration=200ms",
    "map": "/map",
    "timeline": "/timeline?service=web",
    "containers": "/containers",
    "login": "/login",
}
#: What README.md and docs/PAGE.md show, and how much of it from the top.
SHOWN = {"incident": 1040, "request": 860}
#: Of a picture there, in bytes.
MOST_BYTES = 150_000
#: Width, height, colours.
LOOKS = {"light": (1300, 1000, "light"), "dark": (1300, 1000, "dark"), "phone": (390, 844, "light")}


@contextmanager
def shop(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A server with a quarter of an hour of a shop, and the incident and the request that are shown of it."""
    correlator, zero_ns = opened(folder)
    listed = correlator.incidents.list(IncidentQuery(zero_ns, zero_ns + SECONDS * 10**9)).items
    incident = correlator.incidents.one(next(one["id"] for one in listed if one["cause"] == FAULTS[0].cause))
    assert incident is not None
    judged = {one: correlator.verdict(one) for one in incident["examples"]}
    alone = [one for one, verdict in judged.items() if verdict is not None and len(verdict.culprits) == 1]
    with serving(correlator, ServerSettings()) as url:
        yield url, {"incident": incident["id"], "request": (alone or incident["examples"])[0]}
    correlator.close()


def looked_at(browser: Chrome, address: str, width: int, height: int, colours: str) -> None:
    """Open a page so large and in these colours."""
    media = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)


def whole(browser: Chrome, width: int, height: int, most: int = 3000) -> None:
    """As high as the page is."""
    long = int(browser.execute_script("return document.documentElement.scrollHeight"))
    size = {"width": width, "height": min(max(long, height), most), "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def shown(browser: Chrome, path: Path) -> None:
    """What the browser shows, as small as WebP makes it. ValueError where that is too much for a README."""
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 80})
    picture = base64.b64decode(taken["data"])
    if len(picture) > MOST_BYTES:
        raise ValueError(f"{path} has {len(picture):,} bytes; expected at most {MOST_BYTES:,}")
    path.write_bytes(picture)
    print(path)


def main(to: Path, only: tuple[str, ...]) -> None:
    """Write a PNG of each page into the folder, and the documents' pictures."""
    to.mkdir(parents=True, exist_ok=True)
    documents = Path(__file__).parent.parent / "docs/pictures"
    with tempfile.TemporaryDirectory() as folder, shop(Path(folder) / "store") as (url, names):
        browser = open_browser(Path(folder) / "profile")
        try:
            for page, path in PAGES.items():
                if only and page not in only:
                    continue
                address = url + path.format(**names)
                for look, (width, height, colours) in LOOKS.items():
                    looked_at(browser, address, width, height, colours)
                    whole(browser, width, height)
                    browser.save_screenshot(str(to / f"{page}-{look}.png"))
                    print(to / f"{page}-{look}.png")
                    print("".join(f"  {entry['message']}\n" for entry in browser.get_log("browser")), end="")
                for colours in ("light", "dark") if page in SHOWN else ():
                    looked_at(browser, address, 1200, SHOWN[page], colours)
                    shown(browser, documents / f"{page}-{colours}.webp")
        finally:
            browser.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]))
