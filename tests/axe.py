"""axe-core, which finds what people with a keyboard, a screen reader or weak eyes cannot use; for tests only.

A download of development: the file of one version, held to its hash, kept in ``.make`` beside what pip downloads.
``npm_config_registry`` names another registry, as it does for npm. It is never part of a wheel.
"""

from __future__ import annotations

import io
import os
import tarfile
import urllib.request
from hashlib import sha256
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome

VERSION = "4.14.1"
#: Of the archive, and of the file that is taken from it.
ARCHIVE, FILE = (
    "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745",
    "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c",
)
_KEPT = Path(__file__).parent.parent / f".make/axe-core-{VERSION}.min.js"
_MEMBER = "package/axe.min.js"
#: What is held against a page; the others are advice.
BAD = ("serious", "critical")


def axe() -> str:
    """Its text. OSError where the registry does not answer, ValueError where it answers with something else."""
    if _KEPT.exists():
        text = _KEPT.read_bytes()
        if sha256(text).hexdigest() == FILE:
            return text.decode()
    registry = os.environ.get("npm_config_registry", "https://registry.npmjs.org").rstrip("/")  # noqa: SIM112 - npm's
    address = f"{registry}/axe-core/-/axe-core-{VERSION}.tgz"
    with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310 - a registry of packages
        archive = answer.read()
    found = sha256(archive).hexdigest()
    if found != ARCHIVE:
        raise ValueError(f"{address}: expected sha256 {ARCHIVE}, found {found}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        member = files.extractfile(_MEMBER)
        assert member is not None, f"{address} has no {_MEMBER}"
        text = member.read()
    _KEPT.parent.mkdir(exist_ok=True)
    mine = _KEPT.with_suffix(f".{os.getpid()}")  # another test may be about to write it
    mine.write_bytes(text)
    mine.replace(_KEPT)
    return text.decode()


def violations(browser: Chrome, script: str, *rules: str) -> list[str]:
    """What is bad on the page that is shown: rule, what it means, and the first elements. By all rules, or these."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    browser.execute_script(f"if (!window.axe) {{ {script} }}")
    found = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, arguments[0]).then((found) => done(found.violations), (problem) => done(String(problem)))",
        options,
    )
    assert isinstance(found, list), found
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: "
        + "; ".join(
            f"{node['html'][:160]} {node['any'][0]['message'] if node['any'] else ''}" for node in one["nodes"][:3]
        )
        for one in found
        if one["impact"] in BAD
    ]
