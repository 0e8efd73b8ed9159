"""SQL for the curious: what may be asked, and that nothing else can be done with it."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from api_fake import TOKEN, FakeCorrelator
from flask.testing import FlaskClient
from live_server import Live
from spans import a_while_ago, batch, event_row, series_rows, span_row

from layerline_api.app import create_app
from layerline_api.commands.sql import main
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.questions import sql
from layerline_correlator.questions.sql import BadSql
from layerline_correlator.settings import Settings
from layerline_correlator.store.memory import resident_bytes
from layerline_correlator.store.patience import TooHeavy

TRACE = f"{1:032x}"
DOCS = Path(__file__).parents[2] / "docs/SQL.md"


@pytest.fixture(scope="module")
def correlator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Correlator]:
    opened = Correlator.open(Settings(store=tmp_path_factory.mktemp("store"), group_ns=1_000_000))
    zero_ns = a_while_ago()
    spans = [{"id": f"a{n}", "kind": "server", "ms": [n, 900], "cpu": 20, "container": "web-1"} for n in range(5)]
    series = [
        series_rows({"signal": "container.cpu.time", "container": "web-1", "at": [0, 9], "values": [1, 2]}, zero_ns)
    ]
    events = [event_row({"name": "container.start", "container": "web-1", "at": -5000}, zero_ns)]
    opened.append(batch([span_row(drawn, TRACE, zero_ns) for drawn in spans], series, events))
    yield opened
    opened.close()


GOOD = [
    "SELECT count(*) FROM requests WHERE start > now() - INTERVAL 1 HOUR",
    "SELECT service, quantile_cont(duration_ns / 1e6, 0.95) AS p95_ms FROM requests GROUP BY ALL ORDER BY p95_ms DESC;",
    "FROM spans SELECT name, thread_cpu_ns, attributes['http.route'] LIMIT 3",
    "WITH slow AS (FROM requests WHERE duration_ns > 1e6) SELECT r.*, p.cause FROM slow r JOIN parts p USING (span_id)",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n",
    "SELECT time_bucket(INTERVAL 1 MINUTE, time) AS minute, avg(value) FROM points GROUP BY ALL",
    "SELECT c.name, e.name FROM events e LEFT JOIN containers c USING (container_id)",
    "SELECT lag(value) OVER (PARTITION BY series ORDER BY time) FROM points QUALIFY row_number() OVER () = 1",
    "SELECT * FROM range(3) AS t(i) -- with a comment",
    "SELECT COLUMNS('.*_ns') FROM requests",
    "SELECT list_transform([1, 2], lambda x: x + 1), {'a': 1}.a, [1, 2, 3][1:2], CASE WHEN true THEN 1 END",
    "SELECT 'read_csv(''/etc/passwd'')' AS harmless",
    "VALUES (1), (2)",
]

HOSTILE = [
    # files and the network
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM READ_PARQUET('x')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM '/etc/passwd.csv'",
    'SELECT * FROM "/etc/passwd.csv"',
    "SELECT * FROM 'https://example.com/x.parquet'",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "COPY requests TO '/tmp/x'",
    "COPY (SELECT 1) TO '/tmp/x'",
    "EXPORT DATABASE '/tmp/x'",
    "ATTACH '/tmp/x.duckdb'",
    "INSTALL httpfs",
    "LOAD httpfs",
    # a common table does not make a file's name known elsewhere
    """SELECT * FROM (WITH "/etc/passwd.csv" AS (SELECT 1) SELECT * FROM "/etc/passwd.csv"), "/etc/passwd.csv" """,
    """WITH a AS (FROM "/etc/passwd.csv"), "/etc/passwd.csv" AS (SELECT 1) SELECT * FROM a""",
    """WITH "/etc/passwd.csv" AS (FROM "/etc/passwd.csv") FROM "/etc/passwd.csv" """,
    "SELECT * FROM requests WHERE EXISTS (FROM read_text('/etc/passwd'))",
    "SELECT (SELECT max(content) FROM read_text('/etc/passwd'))",
    "SELECT 1 ORDER BY (SELECT max(content) FROM read_text('/etc/passwd'))",
    "SELECT 1 LIMIT (SELECT count(*) FROM read_text('/etc/passwd'))",
    "SELECT sum(i) FILTER (EXISTS (FROM read_text('/etc/passwd'))) FROM range(3) t(i)",
    "SELECT * FROM range((SELECT count(*) FROM read_text('/etc/passwd')))",
    "SELECT row_number() OVER (ORDER BY (SELECT max(content) FROM read_text('/etc/passwd')))",
    "SELECT list_transform([1], lambda x: (SELECT max(content) FROM read_text('/etc/passwd')))",
    "SELECT * FROM requests r JOIN parts p ON (SELECT true FROM read_text('/etc/passwd'))",
    "VALUES ((SELECT max(content) FROM read_text('/etc/passwd')))",
    # the process, its settings and its secrets
    "SELECT getenv('LAYERLINE_TOKEN')",
    "SELECT GetEnv('HOME')",
    "SELECT current_setting('temp_directory')",
    "SELECT getvariable('x')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM (WITH pragma_database_list AS (SELECT 1) SELECT 1), pragma_database_list",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM main.span",
    "SELECT * FROM span",
    "SELECT * FROM hot.main.span",
    "SELECT * FROM arriving",
    "SELECT * FROM correlator",
    "PRAGMA database_list",
    "SET memory_limit = '1TB'",
    "RESET ALL",
    "CALL pragma_version()",
    "SHOW TABLES",
    "DESCRIBE requests",
    "SUMMARIZE requests",
    "EXPLAIN SELECT 1",
    # SQL within SQL
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('span')",
    "SELECT * FROM json_execute_serialized_sql('{}')",
    "SELECT json_serialize_sql('SELECT 1')",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "SELECT $1",
    # writes
    "INSERT INTO span SELECT * FROM span",
    "DELETE FROM main.request",
    "UPDATE main.request SET slow = true",
    "WITH gone AS (DELETE FROM main.request RETURNING *) SELECT * FROM gone",
    "WITH more AS (INSERT INTO main.event SELECT * FROM main.event RETURNING *) SELECT * FROM more",
    "DROP TABLE span",
    "DROP VIEW views.requests",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "TRUNCATE main.span",
    "BEGIN",
    "ROLLBACK",
    "CHECKPOINT",
    "VACUUM",
    "SELECT nextval('x')",
    "SELECT write_log('x')",
    # more than one thing, or none
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE span",
    "SELECT 1) UNION ALL (SELECT 2",
    "SELECT 1 /*",
    "",
    "   ",
    ";",
    "-- nothing",
    "nonsense",
    "\0",
    "SELECT '\0",
    "PIVOT requests ON service USING count(*)",
    # little that becomes much
    "SELECT repeat('x', 1000000000)",
    "SELECT lpad('x', 1000000000, 'y')",
    "SELECT format('{:1000000000}', 1)",
    "SELECT range(10000000000)",
    "SELECT sleep_ms(100000)",
    "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    "SELECT " + " + ".join("1" for _ in range(5000)),
]


@pytest.mark.parametrize("query", GOOD)
def test_what_may_be_asked(correlator: Correlator, query: str) -> None:
    """A SELECT over the views is answered, whatever is calculated from them."""
    table = correlator.sql(query, 10)
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.columns)} == {len(table.types)}


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_what_may_not_be_done(correlator: Correlator, query: str) -> None:
    """Anything else is refused before it runs: files, settings, other tables, writes, code in strings."""
    with pytest.raises(BadSql):
        correlator.sql(query, 10)


def test_nothing_was_changed(correlator: Correlator) -> None:
    """After all that the views are there, and what was received is too."""
    for query in HOSTILE:
        with pytest.raises(BadSql):
            correlator.sql(query, 10)
    assert correlator.sql("SELECT count(*) FROM spans", 1).rows == [[5]]
    assert correlator.sql("SELECT count(*) FROM events", 1).rows == [[1]]


def test_a_read_only_transaction_stands_behind_it(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a write to pass for a SELECT, the transaction would refuse it."""
    monkeypatch.setattr(sql, "_check_node", lambda *_: None)
    with pytest.raises(BadSql, match="read-only"):
        correlator.sql("WITH gone AS (DELETE FROM main.event RETURNING *) SELECT * FROM gone", 10)


def test_rows_are_limited(correlator: Correlator) -> None:
    """No more rows than asked for, and the answer says when there were more; nothing is read that is not shown."""
    table = correlator.sql("SELECT i * 2 FROM range(1000000000000) AS t(i)", 3)
    assert (len(table.rows), table.cut) == (3, True)
    assert not correlator.sql("SELECT 1", 1).cut


def test_what_is_too_heavy_is_cut_off(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that takes too long, or finds too much, ends with what to narrow; the next one is answered."""
    monkeypatch.setattr(sql, "PATIENCE_S", 0.2)
    with pytest.raises(TooHeavy, match="narrow"):
        correlator.sql("SELECT count(*) FROM range(1000000000) a, range(1000000000) b", 3)
    monkeypatch.setattr(sql, "PATIENCE_S", 60)
    monkeypatch.setattr(sql, "SIZE_BYTES", 1000)
    with pytest.raises(TooHeavy, match="fewer"):
        correlator.sql("SELECT i FROM range(100000) t(i)", 10_000)
    assert correlator.sql("SELECT 1", 1).rows == [[1]]


DOUBLED = "WITH RECURSIVE n AS (SELECT 1 AS i, 'x' AS s UNION ALL SELECT i + 1, {} FROM n WHERE i < 40)"
BOMBS = {
    "replace": "SELECT length(replace(s, 'a', s)) FROM (SELECT replace(s, 'a', s) AS s FROM (SELECT replace(s, 'a', s)"
    " AS s FROM (SELECT replace('aaaaaaaaaa', 'a', 'aaaaaaaaaa') AS s)))",
    "concat": DOUBLED.format("s || s") + " SELECT max(length(s)) FROM n",
    "levenshtein": DOUBLED.format("CASE WHEN i < 20 THEN s || s ELSE s END")
    + " SELECT max(levenshtein(s, s || 'y')) FROM n",
    "list": "SELECT len(list(i)) FROM range(1000000000000) AS t(i)",
    "reduce": "SELECT length(list_reduce(list('x'), lambda a, b: a || a)) FROM range(45)",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_little_does_not_become_much(correlator: Correlator, bomb: str) -> None:
    """A query that makes gigabytes of a few letters ends before it has them, and the next one is answered."""
    before = resident_bytes()
    with pytest.raises((BadSql, TooHeavy), match=r"memory|256 characters"):
        correlator.sql(BOMBS[bomb], 1)
    assert resident_bytes() - before <= sql.WALL_BYTES
    assert correlator.sql("SELECT 1", 1).rows == [[1]]


def test_every_type_is_json(correlator: Correlator) -> None:
    """Whatever DuckDB's types are, the rows are plain JSON; what JSON cannot say is text."""
    query = (
        "SELECT NULL, true, 170141183460469231731687303715884105727, 1.5::DECIMAL(9, 3), 'nan'::DOUBLE,"
        " DATE '2026-11-23', TIMESTAMP '2026-11-23 10:00:00.5', now() IS NOT NULL, [1, NULL], {'a': 'é'}, MAP {'k': 1},"
        " INTERVAL 3 DAY"
    )
    assert correlator.sql(query, 1).rows == [
        [
            None, True, 2**127 - 1, 1.5, "NaN", "2026-11-23", "2026-11-23 10:00:00.5", True, [1, None], {"a": "é"},
            {"k": 1}, "3 days",
        ]
    ]  # fmt: skip


def test_every_view_is_documented(correlator: Correlator) -> None:
    """docs/SQL.md has every view with every column and its type, in their order, and no other."""
    text = DOCS.read_text(encoding="utf-8")
    told = {
        section.split("\n", 1)[0].strip("` "): re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE)
        for section in text.split("\n## ")[1:]
        if section.startswith("`")
    }
    assert set(told) == sql.VIEWS
    for view, columns in told.items():
        table = correlator.sql(f"SELECT * FROM {view}", 1)
        assert columns == list(zip(table.columns, table.types, strict=True)), view


def test_the_examples_of_the_documentation_run(correlator: Correlator) -> None:
    """What docs/SQL.md shows can be asked as it stands."""
    examples = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 3
    for query in examples:
        correlator.sql(query, 10)


# ---- over HTTP


def client(**settings: Any) -> FlaskClient:
    return create_app(FakeCorrelator(), ServerSettings(**settings)).test_client()


def test_off_without_a_token() -> None:
    """Without a token SQL is off, and the answer says how to turn it on."""
    answer = client().post("/api/v1/sql", json={"sql": "SELECT 1"})
    assert (answer.status_code, answer.content_type) == (403, "application/problem+json")
    assert "LAYERLINE_TOKEN" in answer.json["detail"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"sql": "SELECT 1"}, 200, None),
        ({"sql": ""}, 400, "sql"),
        ({}, 400, "sql"),
        ({"sql": 1}, 400, "sql"),
        ({"sql": "SELECT 1", "limit": 0}, 400, "limit"),
        ({"sql": "SELECT 1", "limit": 10_001}, 400, "limit"),
        ({"sql": "SELECT 1", "limit": "5"}, 400, "limit"),
        ({"sql": "SELECT 1", "rows": 5}, 400, "rows"),
        ([], 400, None),
    ],
)
def test_the_body_is_looked_at(body: Any, status: int, field: str | None) -> None:
    """What the body lacks, and what it has too much, is named."""
    answer = client(token=TOKEN).post("/api/v1/sql", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.json.get("field")) == (status, field)


@pytest.mark.parametrize(("raised", "status"), [(BadSql("no"), 400), (TooHeavy("narrow it"), 422)])
def test_what_is_refused_is_a_problem(monkeypatch: pytest.MonkeyPatch, raised: Exception, status: int) -> None:
    """A refused query and one that was cut off are problems that name `sql`."""

    def refuse(*_: object) -> None:
        raise raised

    monkeypatch.setattr(FakeCorrelator, "sql", refuse)
    answer = client(token=TOKEN).post(
        "/api/v1/sql", json={"sql": "SELECT 1"}, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert (answer.status_code, answer.json["field"], answer.json["detail"]) == (status, "sql", str(raised))


@pytest.mark.parametrize(
    ("raised", "status", "words"),
    [
        (duckdb.InterruptException("INTERRUPT Error: Interrupted!"), 503, "the server is ending"),
        (duckdb.IOException('Could not write file "spill": No space left on device'), 503, "No space left"),
        (duckdb.BinderException("Binder Error: there is no such column"), 400, "no such column"),
    ],
)
def test_what_the_query_is_not_at_fault_for_is_not_held_against_it(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch, raised: Exception, status: int, words: str
) -> None:
    """Cut off by the end of the server or by a full disk it may be asked again; what is wrong with it is a 400."""

    def fails(_: object) -> Iterator[list[Any]]:
        raise raised

    monkeypatch.setattr(sql, "_rows", fails)
    asked = create_app(correlator, ServerSettings(token=TOKEN)).test_client()
    answer = asked.post("/api/v1/sql", json={"sql": "SELECT 1"}, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == status
    assert words in answer.json["detail"]


# ---- the command


@pytest.fixture
def server(live: Live, correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERLINE_SERVER", live(correlator, ServerSettings(token=TOKEN)))
    monkeypatch.setenv("LAYERLINE_TOKEN", TOKEN)


QUERY = "SELECT service, count(*) AS n, [1, 2] AS some FROM spans GROUP BY ALL"


@pytest.mark.usefixtures("server")
def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """For people: a table, numbers to the right, one line per row."""
    assert main([QUERY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["service", "n", "some"], ["web", "5", "[1,", "2]"]]


@pytest.mark.usefixtures("server")
def test_the_command_prints_csv_and_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs: CSV with a header, or the API's body unchanged; - reads the query from standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(QUERY))
    assert main(["-", "--csv"]) == 0
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [["service", "n", "some"], ["web", "5", "[1, 2]"]]
    assert main([QUERY, "--json"]) == 0
    assert '"rows": [["web", 5, [1, 2]]]' in capsys.readouterr().out


@pytest.mark.usefixtures("server")
def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """A refused query is exit code 2 with the reason; rows that are left out are mentioned."""
    assert main(["SELECT getenv('HOME')"]) == 2
    assert "getenv is not possible here" in capsys.readouterr().err
    assert main(["SELECT * FROM range(5)", "--limit", "2"]) == 0
    assert "more than these 2 rows" in capsys.readouterr().err
