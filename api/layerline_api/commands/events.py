"""Tell the server of a change, such as a deploy, so that verdicts can name it.

With the same time the same event counts once, however often it is sent.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from layerline.parsing import Parser
from layerline.tags import TAG_WORDS
from layerline_api.asking import Server, ask, body_of, print_body, with_server
from layerline_api.doors.events import DEPLOYED
from layerline_api.words.clean import clean
from layerline_correlator.times import rfc3339

COMMAND = "event"


def main(argv: Sequence[str]) -> int:
    """``layerline event TEXT [--service S] [--version V] [--name N] [--time T] [--tag key:value]… [--json]``."""
    options = _options(argv)
    attributes = {TAG_WORDS.get(key, key): value for key, _, value in (tag.partition(":") for tag in options.tag)}
    if options.service is not None:
        attributes["service.name"] = options.service
    if options.version is not None:
        attributes["service.version"] = options.version
    body = {
        "name": options.name,
        "body": options.text,
        "time": options.time or rfc3339(time.time_ns()),  # ours, so that who tries again tells of the same event
        "attributes": attributes,
    }

    def tell(server: Server, _: argparse.Namespace) -> None:
        answer = server.post("/api/v1/events", body)
        told = body_of(server, answer).get("event")
        if not isinstance(told, dict):
            raise server.stranger()
        if options.json:
            print_body(answer)
        else:
            print(clean(f"{told.get('time')}  {told.get('name')}  {told.get('body')}"))

    return ask("event", options, tell)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="layerline event", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", metavar="TEXT", help='what happened, such as "deployed web 1.5"')
    parser.add_argument("--service", metavar="S", help="the service it happened to (service.name)")
    parser.add_argument("--version", metavar="V", help="the version that runs from now on (service.version)")
    parser.add_argument("--name", default=DEPLOYED, metavar="N", help=f"what kind of event (default {DEPLOYED})")
    parser.add_argument("--time", metavar="T", help="when, such as 2026-11-23T10:00:00Z (default now)")
    parser.add_argument("--tag", action="append", default=[], metavar="KEY:VALUE", type=_tag, help="repeatable")
    with_server(parser)
    return parser.parse_args(argv)


def _tag(text: str) -> str:
    key, colon, value = text.partition(":")
    if not (key and colon and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY:VALUE")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
