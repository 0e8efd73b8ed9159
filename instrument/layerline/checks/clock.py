"""Whether this machine's clock agrees with the server's: figures of two machines are put on one timeline."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

from layerline.doctor import OK, PROBLEM, UNKNOWN, Check, Context, Finding

#: What is no fault yet, beyond what the header leaves open (a whole second), in seconds.
ALLOWED_S = 1.0
#: The same where the server says its time exactly.
EXACT_S = 0.1
_TIMES = re.compile(r"([0-9]{1,19});([0-9]{1,19})")
_CURE = "set both by NTP: timedatectl set-ntp true; see `timedatectl timesync-status` or `chronyc tracking`"


def look(context: Context) -> Finding:
    """Source: the server's header ``Layerline-Clock``; else ``Date``, in whole seconds, between our times around it."""
    answer = context.ask("/healthz", again=True)
    after_s = time.time()
    if times := _TIMES.fullmatch(answer.headers.get("Layerline-Clock", "")):
        # Its own time around its work; ours around the whole: as NTP does (layerline_agent/offset.py).
        began_s, ended_s = int(times[1]) / 1e9, int(times[2]) / 1e9
        off_s = (after_s - answer.took_s - began_s + after_s - ended_s) / 2
        uncertain_s = max(0.0, answer.took_s - (ended_s - began_s)) / 2
        if abs(off_s) - uncertain_s > EXACT_S:
            way = "ahead of" if off_s > 0 else "behind"
            return Finding(
                PROBLEM, f"this machine is {abs(off_s):.2f} s {way} the server (± {uncertain_s:.2f} s)", _CURE
            )
        return Finding(OK, f"agrees with the server's to {abs(off_s) + uncertain_s:.3f} s")
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
        return Finding(PROBLEM, f"this machine is at least {off_s:.1f} s {way} the server", _CURE)
    return Finding(OK, "agrees with the server's to about a second")


CHECK = Check(order=80, title="clock", look=look)
