"""Whether the kernel tells pressure: wall time in which something waited for CPU, memory or the disk."""

from __future__ import annotations

import errno

from layerline.doctor import ADVICE, OK, Check, Context, Finding
from layerline_agent.cgroups import UNIFIED, Tree
from layerline_agent.machine import Machine

_KINDS = ("cpu", "io", "memory")


def look(context: Context) -> Finding:
    """``/proc/pressure``, and the unified cgroup tree, which alone has it for containers."""
    for kind in _KINDS:
        path = context.path("proc/pressure", kind)
        try:
            path.read_text(encoding="ascii")
        except OSError as problem:
            if problem.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                cure = "boot with psi=1 on the kernel's command line (Linux 4.20 or newer, CONFIG_PSI)"
                return Finding(ADVICE, f"the kernel does not tell pressure of {kind}", cure)
            return Finding(ADVICE, f"{path}: {problem.strerror}", "run the agent as a user that may read it")
    if UNIFIED not in Tree.of(Machine(context.host_root)).mounts:
        cure = "mount the unified tree (systemd.unified_cgroup_hierarchy=1 on the kernel's command line)"
        return Finding(ADVICE, "the machine's is told; that of containers is not: cgroup v1 has none", cure)
    return Finding(OK, "of the machine and of containers")


CHECK = Check(order=40, title="pressure", look=look)
