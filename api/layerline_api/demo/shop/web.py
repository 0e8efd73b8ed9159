"""``web``: the shop's front. GET /cart asks ``stock`` and renders; a feature flag makes it compute more."""

from __future__ import annotations

import random

import requests
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from layerline_api.demo.shop.burn import burn
from layerline_api.demo.shop.service import parser, serve

RENDER_CPU_NS = 3_000_000


def create_app(stock: str) -> Flask:
    """The service; ``stock`` is ``host:port``."""
    app = Flask("web")
    flags = {"recommend_cpu_ms": 0, "recommend_percent": 100}

    @app.get("/cart")
    def cart() -> ResponseReturnValue:
        """The cart with the stock's answer. `recommend` is the slow code that the flag switches on."""
        answer = requests.get(f"http://{stock}/stock", timeout=60)
        answer.raise_for_status()
        burn(RENDER_CPU_NS)
        if random.random() * 100 < flags["recommend_percent"]:  # noqa: S311 - which carts; nothing is secret
            recommend(flags["recommend_cpu_ms"])
        return jsonify(items=answer.json())

    @app.put("/flags")
    def set_flags() -> ResponseReturnValue:
        """Switch features: ``recommend_cpu_ms`` of CPU for ``recommend_percent`` of the carts."""
        flags.update({name: int(value) for name, value in request.args.items() if name in flags})
        return jsonify(flags)

    return app


def recommend(cpu_ms: int) -> None:
    """The new feature: it compares everything with everything."""
    if cpu_ms:
        burn(cpu_ms * 1_000_000)


if __name__ == "__main__":
    arguments = parser(__doc__ or "")
    arguments.add_argument("--stock", metavar="HOST:PORT", required=True)
    options = arguments.parse_args()
    serve(create_app(options.stock), options.listen)
