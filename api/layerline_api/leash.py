"""A command that ends when its parent does: ``python -m layerline_api.leash PARENT_PID COMMAND ARGUMENTS…``.

The kernel is asked to send SIGTERM when the parent dies, also of kill -9 (prctl(2), PR_SET_PDEATHSIG). The child asks
for itself, because code between fork and exec of a process with threads may deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from layerline.command import main

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(parent):  # it died before we asked
        sys.exit(1)
    sys.exit(main(command))
