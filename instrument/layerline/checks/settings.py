"""Whether the settings file can be used, and keeps its secrets."""

from __future__ import annotations

from layerline.configuration import SECRET, BadSettings, place, read
from layerline.doctor import OK, PROBLEM, UNKNOWN, Check, Context, Finding


def look(context: Context) -> Finding:
    """It holds nothing but settings, and where it holds a token, not everybody may read it."""
    path = place(context.environ, context.config)
    if path is None:
        return Finding(OK, "there is no settings file: variables and defaults hold")
    try:
        mode = path.stat().st_mode
        file = read(path)
    except PermissionError:
        return Finding(UNKNOWN, f"{path} may not be read by this user")
    except OSError as problem:
        return Finding(PROBLEM, f"{path}: {problem.strerror}", "write it, or name another with --config FILE")
    except BadSettings as problem:
        if path.exists() and "Permission denied" in str(problem):
            return Finding(UNKNOWN, f"{path} may not be read by this user")
        return Finding(PROBLEM, str(problem), "correct it; `layerline config` lists all settings")
    secrets = {f"LAYERLINE_{key.upper()}" for key in SECRET}
    if mode & 0o004 and any(secrets & set(values) for values in (file.common, *file.own.values())):
        return Finding(PROBLEM, f"{path} holds a token, and every user may read it", f"chmod o-r {path}")
    return Finding(OK, str(path))


CHECK = Check(order=10, title="settings", look=look)
