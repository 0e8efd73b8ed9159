"""Whether this machine's clock agrees with the server's: figures of two machines are put on one timeline."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

from layerline.doctor import OK, PROBLEM, UNKNOWN, Check, Context, Finding

#: What is no fault yet, beyond what the header leaves open (a whole second), in seconds.
ALLOWED_S = 1.0


def look(context: Context) -> Finding:
    """Source: the header ``Date`` of HTTP, in whole seconds, between our time before and after."""
    answer = context.ask("/healthz", again=True)
    after_s = time.time()
    try:
        server_s = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return Finding(UNKNOWN, "the server did not say what time it is")
    before_s = after_s - answer.took_s
    # The server's clock stood between server_s and server_s + 1 while ours was between before_s and after_s.
    ahead_s, behind_s = before_s - (server_s + 1), server_s - after_s
    off_s = max(ahead_s, behind_s, 0.0)
    if off_s > ALLOWED_S:
        way = "ahead of" if ahead_s > behind_s else "behind"
        cure = "set both by NTP: timedatectl set-ntp true; see `timedatectl timesync-status` or `chronyc tracking`"
        return Finding(PROBLEM, f"this machine is at least {off_s:.1f} s {way} the server", cure)
    return Finding(OK, "agrees with the server's to about a second")


CHECK = Check(order=80, title="clock", look=look)
