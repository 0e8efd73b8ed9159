"""Pictures of every page, light, dark and on a phone: ``make screenshots`` (``make screenshots TO=FOLDER``).

They are taken of a shop that was made up (tests/correlator/shop.py): twenty minutes, in the last of which the CPU limit
of `stock` binds, with a deployment before. They are for looking at; nothing compares them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

for folder in ("", "api", "correlator"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

from live_server import serving  # noqa: E402 - the tests' own modules, which are found from here on
from shop import During, S, carts, happened, serve, throttled  # noqa: E402
from spans import series_rows  # noqa: E402

from browser import open_browser  # noqa: E402
from layerline_api.settings import ServerSettings  # noqa: E402
from layerline_correlator.correlator import Correlator  # noqa: E402
from layerline_correlator.settings import Settings  # noqa: E402

SECONDS, FAULT_S = 1200, 150
PAGES = {
    "now": "/",
    "services": "/services",
    "service": "/service?service=web",
    "operation": f"/service?service=web&operation={quote('GET /cart')}",
    "shares": "/shares?service=web&min_duration=200ms",
    "map": "/map",
    "timeline": "/timeline?service=web",
    "containers": "/containers",
    "login": "/login",
}
#: Width, height, colours.
LOOKS = {"light": (1300, 1000, "light"), "dark": (1300, 1000, "dark"), "phone": (390, 844, "light")}


@contextmanager
def shop(folder: Path) -> Iterator[str]:
    """A server with twenty minutes of a shop, of which the last two and a half are slow."""
    correlator = Correlator.open(Settings(store=folder, group_ns=1_000_000))
    zero_ns = time.time_ns() - (SECONDS + 12) * S
    cpu = {
        "signal": "container.cpu.time",
        "container": "stock-1",
        "at": [second * 1000 for second in range(SECONDS)],
        "values": [second * 30 for second in range(SECONDS)],
    }
    began_s = SECONDS - FAULT_S
    serve(
        correlator,
        carts(zero_ns, SECONDS, During(began_s, SECONDS, throttled), rate=1.5),
        [series_rows(cpu, zero_ns)],
        [happened("stock-1", "container.update", zero_ns + (began_s - 2) * S)],
    )
    with serving(correlator, ServerSettings()) as url:
        yield url
    correlator.close()


def main(to: Path, only: tuple[str, ...]) -> None:
    """Write a PNG of each page and look into the folder."""
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, shop(Path(folder) / "store") as url:
        browser = open_browser(Path(folder) / "profile")
        try:
            for page, path in PAGES.items():
                for look, (width, height, colours) in LOOKS.items():
                    if only and page not in only:
                        continue
                    media = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
                    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
                    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
                    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                    browser.get(url + path)
                    whole = int(browser.execute_script("return document.documentElement.scrollHeight"))
                    size["height"] = min(max(whole, height), 3000)
                    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                    browser.save_screenshot(str(to / f"{page}-{look}.png"))
                    print(to / f"{page}-{look}.png")
                    print("".join(f"  {entry['message']}\n" for entry in browser.get_log("browser")), end="")
        finally:
            browser.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]))
