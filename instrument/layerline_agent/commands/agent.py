"""Collect readings of this machine's containers and of the machine itself, and send them as OTLP."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from queue import SimpleQueue

from layerline import configuration
from layerline.hangup import on_hangup
from layerline.lines import log_as_json
from layerline.parsing import Parser
from layerline_agent.agent import build
from layerline_agent.saying import say
from layerline_agent.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """``layerline agent [--endpoint URL] [--tag key:value]… [--interval 1s] [--fine 200ms] [--config FILE]``.

    It runs until SIGTERM or SIGINT. 0 when it was stopped, 2 where an argument or variable is wrong.
    """
    parser = Parser(prog="layerline agent", description=__doc__)
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="where to send (LAYERLINE_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT; local server)",
    )
    parser.add_argument(
        "--tag",
        metavar="key:value",
        action="append",
        default=[],
        help="put a tag on everything reported, e.g. region:eu-1; may be repeated",
    )
    parser.add_argument("--interval", metavar="TIME", help="how often everything is read and sent (1s)")
    parser.add_argument("--fine", metavar="TIME", help="how often stall counters are read (200ms)")
    parser.add_argument("--config", metavar="FILE", help="the settings file (`layerline config`)")
    options = parser.parse_args(argv)
    environment = configuration.Layered()
    try:
        environment = configuration.below("agent", options.config)
        settings = Settings.of(options.endpoint, options.tag, options.interval, options.fine, environment)
    except ValueError as problem:
        print(f"layerline agent: {environment.explained(problem)}", file=sys.stderr)
        return 2
    if settings.log == "json":
        log_as_json()
    agent, line = build(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: agent.stop())
    asked: SimpleQueue[None] = SimpleQueue()

    def keep_up() -> None:
        while True:
            asked.get()
            try:
                again = configuration.below("agent", options.config)
                say(agent.change(Settings.of(options.endpoint, options.tag, options.interval, options.fine, again)))
            except ValueError as problem:
                say(f"the settings are as they were: {problem}")

    if on_hangup(lambda: asked.put(None)):
        threading.Thread(target=keep_up, name="layerline-settings", daemon=True).start()
    say(line)
    agent.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
