"""Services of systemd: what is written and run, how little the units may do, and what systemd is told."""

from __future__ import annotations

import configparser
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from layerline import installing
from layerline.command import commands
from layerline.commands import install, uninstall
from layerline.configuration import read
from layerline.installing import KINDS, CannotInstall, Remove, Run, Write, settings, take, unit
from layerline.notify import READY, notify, watchdog_s
from waiting import PATIENCE_S

#: Capabilities that each service keeps; a new one needs its reason in the unit, and its line here.
CAPABILITIES = {"agent": {"CAP_SYS_PTRACE"}, "server": set()}
#: How exposed systemd finds a unit, at most (0 to 10; below 3 is "OK").
EXPOSURE = 2.5


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own environment may lie where no service sees it."""
    monkeypatch.setattr(install, "program", lambda: "/opt/layerline/bin/layerline")


def parsed(kind: str) -> dict[str, list[str]]:
    """The unit's keys with all their values."""
    found: dict[str, list[str]] = {}
    for line in unit(kind, "/opt/layerline/bin/layerline").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_may_do_no_more_than_it_needs(kind: str) -> None:
    """No capability that is not listed here, no new privileges, the machine read-only, and a user of its own."""
    found = parsed(kind)
    for key in ("CapabilityBoundingSet", "AmbientCapabilities"):
        assert set(" ".join(found[key]).split()) == CAPABILITIES[kind]
    assert (found["User"], found["NoNewPrivileges"], found["ProtectSystem"]) == (["layerline"], ["yes"], ["strict"])
    assert (found["Type"], found["NotifyAccess"], found["UMask"]) == (["notify"], ["main"], ["0077"])
    configparser.ConfigParser(strict=False, interpolation=None).read_string(unit(kind, "/x"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_starts_a_command_that_there_is(kind: str) -> None:
    """The command and its options exist, so that a unit does not outlive them."""
    program, command, *options = parsed(kind)["ExecStart"][0].split()
    assert program == "/opt/layerline/bin/layerline"
    assert command in commands()
    assert options == ["--config", "/etc/layerline/layerline.toml"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_systemd_accepts_the_unit(kind: str, tmp_path: Path) -> None:
    """``systemd-analyze verify`` has nothing to say, and ``security`` finds it little exposed."""
    file = tmp_path / f"layerline-{kind}.service"
    file.write_text(unit(kind, sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    about = [line for line in done.stderr.splitlines() if file.name in line and "User" not in line]
    assert not about, done.stderr
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd is too old for --offline")
    assert done.returncode == 0, done.stdout


def test_without_docker_the_unit_names_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that is not there would keep the service from starting."""

    def no_group(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(installing.grp, "getgrnam", no_group)
    assert "SupplementaryGroups" not in unit("agent", "/x")


def test_a_dry_run_shows_everything_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files with their content, commands, and the settings with the token."""
    monkeypatch.setenv("LAYERLINE_TOKEN", "s3cret-of-a-test")
    monkeypatch.setattr(install, "take", lambda step: pytest.fail("a dry run takes no step"))
    assert install.main(["agent", "--endpoint", "https://obs:4318", "--tag", "zone:a", "--dry-run"]) == 0
    said = capsys.readouterr().out
    for expected in (
        "# write /etc/systemd/system/layerline-agent.service (0644)",
        "ExecStart=/opt/layerline/bin/layerline agent",
        "# keep, or write /etc/layerline/layerline.toml (0640 root:layerline)",
        'endpoint = "https://obs:4318"',
        "# run systemctl enable --now layerline-agent",
    ):
        assert expected in said
    assert uninstall.main(["agent", "--dry-run"]) == 0
    assert "# remove /etc/systemd/system/layerline-agent.service" in capsys.readouterr().out


def test_the_settings_that_are_written_can_be_read(tmp_path: Path) -> None:
    """By our own rules; whatever is in a token or a tag stays a text."""
    file = tmp_path / "layerline.toml"
    file.write_text(settings("agent", "https://obs:4318", 'a"b\\c', ["zone:a", "rack:7"]))
    assert tomllib.loads(file.read_text()).get("token") == 'a"b\\c'
    assert read(file).of("agent") == {
        "LAYERLINE_TOKEN": 'a"b\\c',
        "LAYERLINE_ENDPOINT": "https://obs:4318",
        "LAYERLINE_TAGS": "zone:a,rack:7",
    }
    file.write_text(settings("server", token="t", listen=["0.0.0.0:4318", "[::]:4318"]))  # noqa: S106 - of tests
    assert read(file).of("serve")["LAYERLINE_LISTEN"] == "0.0.0.0:4318,[::]:4318"
    for tags, token in ((["zone"], ""), ([], "a\nb")):
        with pytest.raises(CannotInstall, match="expected"):
            settings("agent", tags=tags, token=token)


def test_files_are_written_once_and_closed(tmp_path: Path) -> None:
    """A unit is renewed, a settings file that is there is kept; secrets are closed to others; steps can be undone."""
    secret = Write(Path("/etc/layerline/layerline.toml"), "token", 0o640, keep=True, group="layerline")
    assert take(secret, tmp_path) == "wrote /etc/layerline/layerline.toml"
    path = tmp_path / "etc/layerline/layerline.toml"
    assert path.stat().st_mode & 0o777 == 0o640
    path.write_text("mine")
    assert take(secret, tmp_path) == "kept /etc/layerline/layerline.toml: it was there before"
    assert path.read_text() == "mine"
    made = Write(Path("/etc/x.service"), "one")
    take(made, tmp_path)
    take(Write(made.path, "two"), tmp_path)
    assert (tmp_path / "etc/x.service").read_text() == "two"
    for _ in range(2):
        take(Remove(made.path), tmp_path)
    assert not (tmp_path / "etc/x.service").exists()
    assert [each.name for each in (tmp_path / "etc").iterdir()] == ["layerline"]


def test_a_step_that_fails_says_what_was_said() -> None:
    """The command and its words; one that may fail does not."""
    with pytest.raises(CannotInstall, match="false: exit code 1"):
        take(Run(("false",)))
    assert take(Run(("false",), may_fail=True)) == "ran false"
    with pytest.raises(CannotInstall, match="No such file"):
        take(Run(("/no/such/program",)))


def test_an_environment_that_the_service_would_not_see_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One below /home, /root or /tmp: the message says where to make another."""
    program = tmp_path / "layerline"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(installing, "HIDDEN", (str(tmp_path),))
    with pytest.raises(CannotInstall, match="python3 -m venv /opt/layerline"):
        installing.program()
    monkeypatch.setattr(installing, "HIDDEN", ("/nowhere",))
    assert installing.program() == str(program)
    program.unlink()
    with pytest.raises(CannotInstall, match="there is no such program"):
        installing.program()


def test_systemd_is_told_by_a_datagram(tmp_path: Path) -> None:
    """To a path or an abstract name; where nobody listens, and without systemd, nothing happens."""
    for name, bound in (
        (str(tmp_path / "notify"), str(tmp_path / "notify")),
        (f"@layerline-{tmp_path}", f"\0layerline-{tmp_path}"),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(bound)
            notify(READY, {"NOTIFY_SOCKET": name})
            systemd.settimeout(PATIENCE_S)
            assert systemd.recv(100) == b"READY=1"
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}, {"NOTIFY_SOCKET": "relative"}):
        notify(READY, environ)


def test_signs_of_life_are_due_twice_in_the_time_that_systemd_waits() -> None:
    """Only in the process that is meant."""
    assert watchdog_s({"WATCHDOG_USEC": "60000000"}) == 30.0
    for environ in ({}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}):
        assert watchdog_s(environ) is None
