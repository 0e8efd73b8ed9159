"""``prices``: somebody else's service, not instrumented. GET /prices answers after a delay that can be set."""

from __future__ import annotations

import time

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from layerline_api.demo.shop.service import parser, serve


def create_app() -> Flask:
    """The service."""
    app = Flask("prices")
    delay = {"ms": 2}

    @app.get("/prices")
    def prices() -> ResponseReturnValue:
        """The price list, after the delay."""
        time.sleep(delay["ms"] / 1_000)
        return jsonify(apple=1, pear=2)

    @app.put("/delay")
    def set_delay() -> ResponseReturnValue:
        """Answer after ``ms`` milliseconds from now on."""
        delay["ms"] = int(request.args["ms"])
        return jsonify(delay)

    return app


if __name__ == "__main__":
    serve(create_app(), parser(__doc__ or "").parse_args().listen)
