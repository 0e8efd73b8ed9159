"""A service of the coarse lab's shop, seen by plain OpenTelemetry: the SDK, Flask, requests, and nothing of ours.

``python coarse_app.py --service stock --listen HOST:PORT [--prices HOST:PORT] [--stock HOST:PORT] [--cart HOST:PORT]``;
``OTEL_EXPORTER_OTLP_ENDPOINT`` names the receiver; without it the service is not instrumented.

``GET /cart /page /report`` (web), ``/cart`` (cart), ``/stock /report`` (stock), ``/kiosk`` (kiosk), ``/prices``
(prices); ``PUT /fault?operation=&cpu=&sleep=&fail=&share=``: from now on such a share (per cent) of that operation's
requests computes and sleeps so many milliseconds more, and so many per cent of all fail; without a query all is well
again.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from collections.abc import Callable
from typing import Any

import requests
import waitress  # type: ignore[import-untyped]  # it ships no type information
from flask import Flask, request
from flask.typing import ResponseReturnValue
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

#: What each kind of cart costs, in milliseconds of CPU and of sleep, and how often it comes: a mixed operation.
CARTS = ((4, 0, 0.6), (12, 20, 0.3), (15, 120, 0.1))
#: The answer of ``/stock``, in bytes: a slow link must have something to carry.
STOCK_BYTES = 16 * 1024


def burn(milliseconds: float) -> None:
    """Compute until this thread has used so much CPU time, in short calls that do not hold the interpreter lock."""
    end = time.thread_time() + milliseconds / 1_000
    while time.thread_time() < end:
        hashlib.pbkdf2_hmac("sha256", b"layerline", b"salt", 400)


class Shop:
    """One service. ``peers`` are the others' addresses, by name."""

    def __init__(self, service: str, peers: dict[str, str]) -> None:
        self.app = Flask(service)
        self._peers = peers
        self._fault: dict[str, float] = {}
        self._operation = ""
        self._chance = random.Random()  # noqa: S311 - which requests are hit; nothing is kept secret with it
        self.app.add_url_rule("/healthz", view_func=self.healthy)
        self.app.add_url_rule("/fault", view_func=self.set_fault, methods=["PUT"])
        operations: dict[str, dict[str, Callable[[], ResponseReturnValue]]] = {
            "web": {"cart": self.front, "page": self.page, "report": self.ask_report},
            "kiosk": {"kiosk": self.kiosk},
            "cart": {"cart": self.cart},
            "stock": {"stock": self.stock, "report": self.report},
            "prices": {"prices": self.prices},
        }
        for name, view in operations[service].items():
            self.app.add_url_rule(f"/{name}", endpoint=name, view_func=view)

    # ---- operations

    def front(self) -> ResponseReturnValue:
        """``web``: the cart, as ``cart`` has it."""
        burn(2)
        return self._ask("cart", "/cart") or self._done()

    def page(self) -> ResponseReturnValue:
        """``web``: a page with prices."""
        burn(3)
        return self._ask("prices", "/prices") or self._done()

    def ask_report(self) -> ResponseReturnValue:
        """``web``: a report, asked for rarely."""
        burn(2)
        return self._ask("stock", "/report") or self._done()

    def kiosk(self) -> ResponseReturnValue:
        """``kiosk``: what is in stock."""
        burn(2)
        return self._ask("stock", "/stock") or self._done()

    def cart(self) -> ResponseReturnValue:
        """``cart``: small, middling and large ones; all ask for stock, and for prices."""
        cpu, sleep, _ = self._chance.choices(CARTS, [share for *_, share in CARTS])[0]
        burn(cpu)
        time.sleep(sleep / 1_000)
        return self._ask("stock", "/stock") or self._ask("prices", "/prices") or self._done()

    def stock(self) -> ResponseReturnValue:
        """``stock``: what there is."""
        burn(10)
        return self._done("s" * STOCK_BYTES)

    def report(self) -> ResponseReturnValue:
        """``stock``: all that there is."""
        burn(25)
        time.sleep(0.03)
        return self._done()

    def prices(self) -> ResponseReturnValue:
        """``prices``: the list."""
        time.sleep(0.003)
        return self._done()

    # ---- what all of them do

    def _ask(self, peer: str, path: str) -> ResponseReturnValue | None:
        """Ask another service; an answer only where that failed."""
        answer = requests.get(f"http://{self._peers[peer]}{path}", timeout=60)
        return None if answer.ok else (f"{peer} answered {answer.status_code}", 502)

    def _done(self, body: str = "done") -> ResponseReturnValue:
        """The answer, after what the fault adds."""
        if self._operation in ("", request.endpoint) and self._fault:
            if self._chance.random() * 100 < self._fault.get("share", 100):
                burn(self._fault.get("cpu", 0))
                time.sleep(self._fault.get("sleep", 0) / 1_000)
            if self._chance.random() * 100 < self._fault.get("fail", 0):
                return "it failed", 500
        return body

    def healthy(self) -> ResponseReturnValue:
        """It answers."""
        return "ok"

    def set_fault(self) -> ResponseReturnValue:
        """Take or drop a fault."""
        self._operation = request.args.get("operation", "")
        self._fault = {name: float(value) for name, value in request.args.items() if name != "operation"}
        return "set"


def instrument(app: Flask) -> None:
    """As OpenTelemetry's documentation has it."""
    provider = TracerProvider()  # OTEL_SERVICE_NAME, and the resource detectors that the environment names
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    flask: Any = FlaskInstrumentor()  # its methods have no types
    flask.instrument_app(app, excluded_urls="healthz,fault")
    RequestsInstrumentor().instrument()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--service", required=True)
    arguments.add_argument("--listen", metavar="HOST:PORT", required=True)
    arguments.add_argument("--plain", action="store_true", help="not instrumented")
    for peer in ("prices", "stock", "cart"):
        arguments.add_argument(f"--{peer}", metavar="HOST:PORT", default="")
    options = arguments.parse_args()
    shop = Shop(options.service, {peer: getattr(options, peer) for peer in ("prices", "stock", "cart")})
    if not options.plain:
        instrument(shop.app)
    host, _, port = options.listen.rpartition(":")
    waitress.serve(shop.app, host=host, port=int(port), threads=8)
