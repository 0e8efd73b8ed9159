"""The extension under gcc's sanitizers: ``make sanitize``.

``layerline._fast`` is built once more, outside the tree, so that the process ends at each access beyond an object or to
one that was freed, and at each step that C does not define. Then its tests run with it. Where gcc or the libraries of
its sanitizers are missing, it says so and does nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "instrument/layerline/_fast.c"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
TESTS = ("tests/wrapper/test_fast.py", "tests/wrapper/test_account.py", "tests/wrapper/test_export.py", "-k")
#: Of the tests of the exporter, those of the encoder.
#: Not those that fork: a child in which another thread had locked the sanitizer's allocator stands still for ever.
CHOSEN = "(test_fast or test_account or encoder or utf_8 or secret) and not fork"


def library(compiler: str, name: str) -> Path | None:
    """A library of the compiler's; None where it is not installed."""
    said = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    found = Path(said.stdout.strip())
    return found if found.is_absolute() and found.exists() else None


def main() -> int:
    """0 where the tests pass, and where nothing can be done."""
    compiler = shutil.which("gcc")
    address = library(compiler, "libasan.so") if compiler is not None else None
    undefined = library(compiler, "libubsan.so") if compiler is not None else None
    if compiler is None or address is None or undefined is None:
        print("make sanitize: left out: gcc or its sanitizers (libasan, libubsan) are not installed here")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "_fast.abi3.so")
        flags = ("-std=c11", "-O1", "-g", "-fPIC", "-shared", *WARNINGS, *SANITIZERS)
        include = f"-I{sysconfig.get_path('include')}"
        subprocess.run([compiler, *flags, include, "-o", str(made), str(SOURCE)], check=True)
        variables = {
            "LD_PRELOAD": f"{address.resolve()} {undefined.resolve()}",
            "PYTHONMALLOC": "malloc",  # Python's own allocator would hide what is freed
            "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter leaves a lot behind
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "LAYERLINE_SANITIZED": str(made),
        }
        words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "tools.sanitized", *TESTS, CHOSEN]
        return subprocess.run(words, cwd=ROOT, env={**os.environ, **variables}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
