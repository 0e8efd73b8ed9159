"""The one thing that pyproject.toml cannot say: the C extension ``layerline._fast`` is built where it can be.

It is optional: without a compiler the installation succeeds and the same is done in Python, slower.
``LAYERLINE_BUILD_FAST=off`` builds a wheel for every platform, without it. The stable ABI of Python 3.11 makes one
binary do for all later versions; a free-threaded build and PyPy have none.
"""

import os
import sys
import sysconfig
from typing import Any

from setuptools import Extension, setup


def wanted() -> bool:
    """Whether to build it here."""
    if os.environ.get("LAYERLINE_BUILD_FAST", "").strip().lower() == "off" or sys.platform != "linux":
        return False
    return sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")


built: dict[str, Any] = {}
if wanted():
    built = {
        "ext_modules": [
            Extension(
                "layerline._fast",
                ["instrument/layerline/_fast.c"],
                define_macros=[("Py_LIMITED_API", "0x030B0000")],
                extra_compile_args=["-O2", "-g0", "-std=c11", "-fvisibility=hidden"],
                py_limited_api=True,
                optional=True,
            )
        ],
        "options": {"bdist_wheel": {"py_limited_api": "cp311"}},
    }
setup(**built)
