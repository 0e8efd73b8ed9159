"""Let an agent ask: a server of the Model Context Protocol on standard input and output.

It asks the Layerline server that `--server` names. An agent's settings name the command, for instance
`{"mcpServers": {"layerline": {"command": "layerline", "args": ["mcp"]}}}` (`layerline docs asked`). Part of the extra
`mcp`; a server that has it too answers the same at `/mcp`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from layerline.configuration import BadSettings
from layerline.parsing import Parser
from layerline_api.asking import CannotAsk, NoAnswer, body_of, chosen_server, with_address


def main(argv: Sequence[str]) -> int:
    """``layerline mcp [--server URL] [--token T] [--config FILE]``.

    Exit codes: 0 the agent is done, 2 it could not begin.
    """
    parser = Parser(prog="layerline mcp", description=(__doc__ or "").partition("\n")[0])
    with_address(parser)
    options = parser.parse_args(argv)
    try:
        from layerline_api.mcp.server import server_of
        from layerline_api.mcp.tools import Refused, Tools
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("layerline"):
            raise
        print(
            f"layerline mcp needs the extra 'mcp', and {missing.name} is not installed: pip install 'layerline[mcp]'",
            file=sys.stderr,
        )
        return 2
    try:
        server = chosen_server(options)
    except (BadSettings, CannotAsk) as problem:
        print(f"layerline mcp: {problem}", file=sys.stderr)
        return 2

    def ask(path: str, given: Sequence[tuple[str, str]]) -> Any:
        try:
            return body_of(server, server.get(path, given))
        except (NoAnswer, CannotAsk) as problem:
            raise Refused(str(problem)) from None

    server_of(Tools(ask, server.url)).run("stdio")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
