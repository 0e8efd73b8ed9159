"""A sample that computes for as long as it is asked to: with its CPU limit of 0.25, /?ms=200 is slow."""

from __future__ import annotations

import time

from flask import Flask, request

app = Flask("sample")


@app.get("/")
def compute() -> str:
    """Spend CPU time: ``ms`` milliseconds of it, 20 unless said, at most 2,000."""
    until_s = time.thread_time() + min(request.args.get("ms", 20, type=int), 2000) / 1000
    rounds = 0
    while time.thread_time() < until_s:
        rounds += 1
    return f"{rounds} rounds\n"
