"""The settings file: what it may hold, which value is in force, and how a mistake in it is named."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from layerline.commands import config
from layerline.commands.run import settled
from layerline.configuration import (
    MASK,
    BadSettings,
    InForce,
    below,
    in_force,
    known_settings,
    place,
    read,
    usual_places,
)
from layerline.lines import JsonLines, as_text_or_json
from layerline_agent.settings import Settings as AgentSettings
from layerline_api.commands.serve import parser, settings_of
from layerline_api.settings import AskSettings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its settings file."""
    return tmp_path / "layerline.toml"


def value_of(found: list[InForce], key: str, program: str) -> tuple[str | None, str]:
    return next((one.value, one.origin) for one in found if one.setting.key == key and program in one.programs)


def test_an_argument_goes_before_a_variable_a_variable_before_the_file_the_file_before_the_default(file: Path) -> None:
    """One setting of each program, at each of the four places."""
    file.write_text('retain = "24h"\nserver = "http://file:1"\ninterval = "5s"\nendpoint = "http://file:1"\n')
    options = parser("serve", "").parse_args
    for environ, retain_h in (({}, 24), ({"LAYERLINE_RETAIN": "12h"}, 12)):
        settings, _ = settings_of(options([]), below("serve", file, environ))
        assert settings.retain_ns == retain_h * 3600 * 10**9
    _, server = settings_of(options(["--token", "a"]), {"LAYERLINE_TOKEN": "v"})
    assert [server.token] == ["a"]
    assert AskSettings.of("http://a", None, below("ask", file, {"LAYERLINE_SERVER": "http://v"})).server == "http://a"
    assert AskSettings.of(None, None, below("ask", file, {"LAYERLINE_SERVER": "http://v"})).server == "http://v"
    assert AskSettings.of(None, None, below("ask", file, {})).server == "http://file:1"
    agent = AgentSettings.of(interval="2s", environment=below("agent", file, {}))
    assert (agent.interval_ns, agent.endpoint) == (2 * 10**9, "http://file:1")
    assert AgentSettings.of(environment=below("agent", file, {})).interval_ns == 5 * 10**9


def test_a_table_of_a_program_goes_before_what_holds_for_all(file: Path) -> None:
    """The agent's token is its own, and the server does not see it; a setting of another program is an error."""
    file.write_text('token = "all"\n[agent]\ntoken = "own"\ntags = {region = "eu-1", zone = "a"}\n')
    assert [below(program, file, {})["LAYERLINE_TOKEN"] for program in ("agent", "serve")] == ["own", "all"]
    tags = AgentSettings.of(environment=below("agent", file, {})).tags
    assert tags == {"cloud.region": "eu-1", "cloud.availability_zone": "a"}
    file.write_text('[agent]\nretain = "1d"\n')
    with pytest.raises(BadSettings, match=r"\[agent\] retain: expected a setting of agent, found one of serve"):
        read(file)


def test_values_of_toml_are_what_their_variables_hold(file: Path) -> None:
    """Numbers, yes and no, and lists; empty where nothing is set."""
    file.write_text(
        'budget = 0.5\nseries = 1000\nhints = false\nnotify = ["https://a", "https://b"]\n'
        '[serve]\nlisten = ["127.0.0.1:1", "127.0.0.1:2"]\ngrpc_listen = "off"\n'
    )
    assert dict(below("serve", file, {})) == {
        "LAYERLINE_BUDGET": "0.5",
        "LAYERLINE_SERIES": "1000",
        "LAYERLINE_NOTIFY": "https://a,https://b",
        "LAYERLINE_LISTEN": "127.0.0.1:1,127.0.0.1:2",
        "LAYERLINE_GRPC_LISTEN": "off",
    }
    assert dict(below("run", file, {})) == {"LAYERLINE_HINTS": "off"}
    _, server = settings_of(parser("serve", "").parse_args([]), below("serve", file, {}))
    assert (server.listen, server.grpc_listen) == (("127.0.0.1:1", "127.0.0.1:2"), ("off",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('retian = "1d"', "retian: there is no setting of that name; the nearest is 'retain'"),
        ('LAYERLINE_RETAIN = "1d"', "the nearest is 'retain'"),
        ("[server]\nretain = 1", "server: expected a text, a number or a list of texts, found a table"),
        ("[aegnt]\ntoken = '1'", "aegnt: there is no setting of that name; the nearest is 'agent'"),
        ("[agent]\ntokn = '1'", "[agent] tokn: there is no setting of that name; the nearest is 'token'"),
        ("retain = {hours = 1}", "retain: expected a text, a number or a list of texts, found a table"),
        ("notify = [1]", "notify: expected a text, a number or a list of texts, found a list of other things"),
        ("slow = 2026-11-30", "slow: expected a text, a number or a list of texts, found a date"),
        ("slow = ", "expected TOML: "),
        ("config = '/etc/x'", "config: there is no setting of that name"),
    ],
)
def test_a_mistake_is_named_with_the_nearest_setting(
    file: Path, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """File, key, what was expected and what was found; and exit code 2."""
    file.write_text(content)
    with pytest.raises(BadSettings) as problem:
        read(file)
    assert str(problem.value).startswith(f"{file}: ")
    assert said in str(problem.value)
    assert config.main(["--config", str(file)]) == 2
    assert said in capsys.readouterr().err


def test_a_value_that_is_wrong_names_the_file(file: Path) -> None:
    """The settings know variables; the message says which file set it."""
    file.write_text('retain = "soon"\n')
    environment = below("serve", file, {})
    with pytest.raises(ValueError, match="LAYERLINE_RETAIN") as problem:
        settings_of(parser("serve", "").parse_args([]), environment)
    assert environment.explained(problem.value).endswith(f"found 'soon' (in {file})")
    assert (
        below("serve", file, {"LAYERLINE_RETAIN": "soon"}).explained("LAYERLINE_RETAIN: no") == "LAYERLINE_RETAIN: no"
    )


def test_the_most_particular_file_is_read_and_no_other(tmp_path: Path) -> None:
    """--config, LAYERLINE_CONFIG, the user's, the machine's; a file that was named must be there."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    user, system = usual_places(environ)
    assert (user, system) == (tmp_path / "layerline/layerline.toml", Path("/etc/layerline/layerline.toml"))
    user.parent.mkdir()
    user.write_text("")
    assert place(environ) == user
    assert place({**environ, "LAYERLINE_CONFIG": "/v"}) == Path("/v")
    assert place({**environ, "LAYERLINE_CONFIG": "/v"}, "/argument") == Path("/argument")
    with pytest.raises(BadSettings, match="cannot be read: No such file"):
        below("serve", tmp_path / "missing", environ)


def test_origins_are_shown_and_secrets_are_not(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`layerline config` has every setting once for each value, with where it comes from."""
    for name in [setting.variable for setting in known_settings().values()]:
        monkeypatch.delenv(name, raising=False)
    file.write_text('token = "s3cret"\nslow = "1s"\n[agent]\ntoken = "0ther"\n')
    monkeypatch.setenv("LAYERLINE_SLOW", "2s")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318")
    found = in_force(given=file)
    assert value_of(found, "slow", "serve") == ("2s", "variable LAYERLINE_SLOW")
    assert value_of(found, "token", "agent") == ("0ther", str(file))
    assert value_of(found, "endpoint", "agent") == ("http://otel:4318", "variable OTEL_EXPORTER_OTLP_ENDPOINT")
    assert value_of(found, "retain", "serve") == (None, "default")
    assert config.main(["--config", str(file)]) == 0
    printed = capsys.readouterr().out
    assert config.main(["--config", str(file), "--json"]) == 0
    said = capsys.readouterr().out
    document = json.loads(said)
    assert {one["key"] for one in document["settings"]} == set(known_settings())
    assert {tuple(one["for"]): one["value"] for one in document["settings"] if one["key"] == "token"} == {
        ("run", "serve", "ask"): MASK,
        ("agent",): MASK,
    }
    for secret in ("s3cret", "0ther"):
        assert secret not in printed + said


def test_the_app_gets_the_wrappers_settings_and_starts_whatever_the_file_holds(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`layerline run` puts them into the app's variables; a file that is wrong is reported, and left out."""
    file.write_text('endpoint = "http://file:1"\nretain = "1d"\n')
    environ = {"LAYERLINE_CONFIG": str(file), "HOME": "/nowhere"}
    assert settled(environ) == {**environ, "LAYERLINE_ENDPOINT": "http://file:1"}
    assert settled({**environ, "LAYERLINE_ENDPOINT": "v"})["LAYERLINE_ENDPOINT"] == "v"
    file.write_text("nonsense = 1")
    assert settled(environ) == environ
    assert "the settings file is left out" in capsys.readouterr().err


def test_a_log_record_is_one_line_of_json() -> None:
    """Also with line breaks and an exception; the form has two names."""
    try:
        raise ValueError("no\nway")
    except ValueError as problem:
        record = logging.LogRecord("layerline", logging.ERROR, "", 1, "two\n%s", ("lines",), None)
        record.exc_info = (type(problem), problem, None)
    line = JsonLines().format(record)
    assert "\n" not in line
    said = json.loads(line)
    assert (said["level"], said["message"], said["logger"]) == ("error", "two\nlines", "layerline")
    assert "ValueError: no\nway" in said["exception"]
    assert as_text_or_json("") == "text"
    with pytest.raises(ValueError, match="LAYERLINE_LOG: expected text or json, found 'xml'"):
        as_text_or_json("xml")
