"""Whether a process may open enough files: the server for its connections, an app for up to three a thread."""

from __future__ import annotations

import resource

from layerline.doctor import ADVICE, OK, PROBLEM, Check, Context, Finding

#: The server leaves 256 to others, and needs some for the connections of agents, apps and people.
LEAST, GOOD = 1024, 8192


def look(context: Context) -> Finding:
    """``ulimit -n`` of this shell: what programs started from it may raise it to is the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = float("inf") if hard == resource.RLIM_INFINITY else hard
    cure = "raise it: `ulimit -Hn 65536` as root, LimitNOFILE=65536 in a systemd unit, --ulimit nofile=65536 in Docker"
    if most < LEAST:
        return Finding(PROBLEM, f"at most {hard} files may be open: the server would turn connections away", cure)
    if most < GOOD:
        return Finding(ADVICE, f"at most {hard} files may be open: enough for about {hard // 4} connections", cure)
    return Finding(
        OK, f"{soft} files may be open, and up to {'any number' if most == float('inf') else hard} if asked for"
    )


CHECK = Check(order=130, title="descriptors", look=look)
