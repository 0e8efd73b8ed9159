"""Whose containers may be removed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from layerline_api.demo import owner


def test_a_running_demo_is_left_alone() -> None:
    """Nothing of a process that runs is a leftover; the label reads back as it was written."""
    here = owner.current()
    assert owner.parse(str(here)) == here
    assert not owner.is_gone(here, here)


def test_a_dead_process_is_gone() -> None:
    """What a process left that has ended is a leftover."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        dead = owner.current(pid=process.pid)
    assert owner.is_gone(dead, owner.current())


def test_a_reused_pid_is_another_process() -> None:
    """The same pid with another start is somebody else: the demo that had it is gone."""
    here = owner.current()
    assert owner.is_gone(replace(here, started_ticks=here.started_ticks - 1), here)


def test_another_pid_namespace_is_not_judged() -> None:
    """A demo inside another container cannot be seen from here, so what it made is left alone, until a reboot."""
    here = owner.current()
    elsewhere = replace(here, pid_namespace=1, pid=999_999_999)
    assert not owner.is_gone(elsewhere, here)
    assert owner.is_gone(replace(elsewhere, boot_id="earlier"), here)


def test_a_label_that_is_not_ours_has_no_owner() -> None:
    """A label with other words names nobody, and nothing is removed on its account."""
    assert owner.parse("") is None
    assert owner.parse("a/b/c/d") is None
