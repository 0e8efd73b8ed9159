"""Whether the kernel keeps how long each thread waited for block I/O."""

from __future__ import annotations

from layerline.doctor import ADVICE, OK, Check, Context, Finding


def look(context: Context) -> Finding:
    """Source: ``kernel.task_delayacct``, off by default since Linux 5.14; always on before."""
    path = context.path("proc/sys/kernel/task_delayacct")
    try:
        on = path.read_text(encoding="ascii").strip() == "1"
    except FileNotFoundError:
        return Finding(OK, "this kernel has no switch for it (before Linux 5.14 it is always on)")
    except OSError as problem:
        return Finding(ADVICE, f"{path}: {problem.strerror}", "run this as a user that may read it")
    if on:
        return Finding(OK, "kept for every thread")
    return Finding(
        ADVICE,
        "off: how long a thread waited for the disk is estimated from its container's counters",
        "sysctl -w kernel.task_delayacct=1 (and in /etc/sysctl.d, to keep it), then start the services again",
    )


CHECK = Check(order=50, title="delay accounting", look=look)
