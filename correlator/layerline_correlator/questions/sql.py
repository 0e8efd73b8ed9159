"""SQL for the curious: one SELECT over the documented views (``views.sql``), and nothing else.

DuckDB runs inside this process with all its rights, and a cursor cannot have fewer. So a query is read before it is
run: DuckDB's own parser turns it into a tree, and the tree may hold nothing but what is named here: kinds of nodes,
functions, our views and the query's own common tables. What is new in a later DuckDB is therefore refused, not
allowed. Beyond that it runs in a read-only transaction, is interrupted when it takes too long, and is read row by
row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from layerline_correlator.store.memory import wall
from layerline_correlator.store.patience import TooHeavy, cut_off
from layerline_correlator.store.statements import first_row

#: How long a query may take, in seconds, and how large what it finds may be, as JSON.
PATIENCE_S = 10.0
SIZE_BYTES = 16 * 2**20
#: Likewise as Arrow, which needs no text.
ARROW_BYTES = 64 * 2**20
#: How much the process may grow before the query is interrupted, and how much one call of a function, which cannot be
#: interrupted, may ask for at once. DuckDB's own limit does not count the texts that functions make.
GROW_BYTES, WALL_BYTES = 256 * 2**20, 768 * 2**20

VIEWS = frozenset(
    {"requests", "parts", "blind", "spans", "points", "events", "logs", "containers", "hosts", "processes"}
)

_NODES = re.compile(
    "SELECT_NODE|SET_OPERATION_NODE|RECURSIVE_CTE_NODE|CTE_NODE"
    "|BASE_TABLE|SUBQUERY|JOIN|EMPTY|EMPTY_FROM|EXPRESSION_LIST|TABLE_FUNCTION"
    "|(ORDER|LIMIT|LIMIT_PERCENT|DISTINCT)_MODIFIER|ORDER_DEFAULT|ASCENDING|DESCENDING"
    "|COLUMN_REF|STAR|ARRAY_EXTRACT|ARRAY_SLICE|STRUCT_EXTRACT|GROUPING_FUNCTION|VALUE_CONSTANT|FUNCTION|LAMBDA"
    "|LAMBDA_REF|CASE|CASE_EXPR|CAST|COLLATE|POSITIONAL_REFERENCE|TYPE"
    "|(COMPARE|CONJUNCTION|OPERATOR|WINDOW)_[A-Z_]+|[A-Z_]+_TYPE_INFO"
)
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})

# Functions that read nothing, change nothing, and give back little more than they get: `repeat`, `lpad`, `format` and
# the like make gigabytes of a few letters.
_FUNCTIONS = frozenset(
    """
    + - * / // % ** ^ || & | << >> ~ ! @ -> ->> @> <@ && ~~ !~~ ~~* !~~* ~~~ not_like_escape like_escape ilike_escape
    not_ilike_escape abs acos add age any_value approx_count_distinct approx_quantile arbitrary arg_max arg_min
    array_agg array_contains array_extract array_length array_slice array_to_string argmax argmin ascii asin atan
    atan2 avg bit_and bit_count bit_or bit_xor bool_and bool_or cardinality cbrt ceil ceiling century char_length
    character_length chr coalesce concat concat_ws contains corr cos cot count count_if count_star covar_pop
    covar_samp current_date current_localtime current_localtimestamp current_timestamp date_add date_diff date_part
    date_sub date_trunc datediff datepart datesub datetrunc day dayname dayofmonth dayofweek dayofyear decade degrees
    divide element_at ends_with entropy epoch epoch_ms epoch_ns epoch_us even exp favg fdiv filter first flatten floor
    fmod formatreadablesize format_bytes from_json fsum gcd geomean get_current_time get_current_timestamp greatest
    hash hex histogram hour if ifnull instr isfinite isinf isnan isodow isoyear json json_array_length json_contains
    json_exists json_extract json_extract_path json_extract_path_text json_extract_string json_keys json_type
    json_valid json_value julian kurtosis last last_day lcase lcm least left len length levenshtein list list_aggr
    list_aggregate list_any_value list_apply list_avg list_concat list_contains list_count list_distinct list_element
    list_extract list_filter list_first list_has list_has_all list_has_any list_last list_max list_median list_min
    list_mode list_position list_reduce list_reverse list_reverse_sort list_slice list_sort list_sum list_transform
    list_unique list_value list_zip ln log log10 log2 lower ltrim mad make_date make_time make_timestamp
    make_timestamp_ms make_timestamp_ns map map_concat map_contains map_entries map_extract map_extract_value
    map_from_entries map_keys map_values max max_by md5 mean median microsecond millisecond min min_by minute mod mode
    month monthname multiply nanosecond not now nullif ord pi position pow power prefix product quantile quantile_cont
    quantile_disc quarter radians random reduce regexp_extract regexp_extract_all regexp_full_match regexp_matches
    regexp_replace regexp_split_to_array regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope replace
    reverse right round row row_to_json rtrim second sem sign signbit sin skewness split split_part sqrt starts_with
    stddev stddev_pop stddev_samp str_split strftime string_agg string_split strip_accents strlen strpos strptime
    struct_extract struct_pack substr substring subtract suffix sum sumkahan switch tan time_bucket to_days to_hours
    to_json to_microseconds to_milliseconds to_minutes to_months to_seconds to_timestamp to_weeks to_years today
    translate trim trunc try_strptime typeof ucase unhex unnest upper var_pop var_samp variance week weekday
    weekofyear xor year yearweek row_number rank dense_rank percent_rank cume_dist ntile lead lag first_value
    last_value nth_value
    """.split()  # noqa: SIM905 - one word per line would be a page of nothing else
)


#: What no query is at fault for: the server ends, the disk is full or broken, or the database is.
NOT_AT_FAULT = duckdb.InterruptException, duckdb.IOException, duckdb.FatalException


class BadSql(ValueError):
    """A query that may not be asked, or that makes no sense; the message says why."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a SQL query found. ``cut`` when there was more than was asked for."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    cut: bool


def read_sql(cursor: duckdb.DuckDBPyConnection, text: str, limit: int) -> Table:
    """At most ``limit`` rows of one SELECT over the views. ``BadSql``; ``TooHeavy`` when it had to be cut off."""
    inner = _check(cursor, text)
    # As JSON, because Python's own types cannot hold all that DuckDB's can. What is run is what was checked.
    whole = f"SELECT to_json(COLUMNS(*)) FROM (\n{inner}\n) LIMIT {limit + 1:d}"
    _check(cursor, whole)
    with _bounded(cursor):
        shape = cursor.sql(inner)
        columns, types = shape.columns, [str(of) for of in shape.types]
        rows = list(_rows(cursor.execute(whole)))
    return Table(columns, types, rows[:limit], cut=len(rows) > limit)


def read_arrow(cursor: duckdb.DuckDBPyConnection, text: str, limit: int) -> bytes:
    """The same as an Arrow IPC stream; ``layerline.cut`` of its schema says whether there is more."""
    inner = _check(cursor, text)
    whole = f"SELECT * FROM (\n{inner}\n) LIMIT {limit + 1:d}"
    _check(cursor, whole)
    found, rows, size = list[pa.RecordBatch](), 0, 0
    with _bounded(cursor):
        reader = cursor.sql(whole).to_arrow_reader(10_000)
        for batch in reader:
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if size > ARROW_BYTES:
                raise TooHeavy(f"what was found is larger than {ARROW_BYTES:,} bytes; select fewer columns or rows")
            found.append(batch)
    cut = rows > limit
    if cut:
        found[-1] = found[-1].slice(0, found[-1].num_rows - 1)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, reader.schema.with_metadata({"layerline.cut": "true" if cut else "false"})) as stream:
        for batch in found:
            stream.write_batch(batch)
    return bytes(sink.getvalue())


@contextmanager
def _bounded(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """The views alone, read-only, for so long and with so much memory. ``BadSql``, ``TooHeavy``."""
    for setting in ("SET search_path = 'views'", "SET TimeZone = 'UTC'", "BEGIN TRANSACTION READ ONLY"):
        cursor.execute(setting).fetchall()
    narrow = "narrow it: a shorter stretch of start_ns or time_ns, fewer columns, no join without an equality"
    try:
        with wall(WALL_BYTES), cut_off(cursor, PATIENCE_S, GROW_BYTES):
            yield
    except TooHeavy as problem:
        raise TooHeavy(f"{problem}; {narrow}") from None
    except (duckdb.OutOfMemoryException, MemoryError):
        raise TooHeavy(f"it took more memory than there is; {narrow}") from None
    except NOT_AT_FAULT:
        raise
    except duckdb.Error as problem:
        raise BadSql(_first_line(problem)) from None


def _rows(found: duckdb.DuckDBPyConnection) -> Iterator[list[Any]]:
    size = 0
    while some := found.fetchmany(100):
        for row in some:
            size += sum(len(value or "") for value in row)
            if size > SIZE_BYTES:
                raise TooHeavy(f"what was found is larger than {SIZE_BYTES:,} bytes; select fewer columns or rows")
            yield [None if value is None else json.loads(value, parse_constant=str) for value in row]


def _check(cursor: duckdb.DuckDBPyConnection, text: str) -> str:
    """The text without a semicolon behind it. ``BadSql`` unless it is one SELECT of nothing but what is allowed."""
    try:
        statements = cursor.extract_statements(text)
    except duckdb.Error as problem:
        raise BadSql(_first_line(problem)) from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise BadSql("expected one SELECT statement, and nothing else")
    told = first_row(cursor.execute("SELECT json_serialize_sql($text::VARCHAR)", {"text": text}))
    try:
        tree = json.loads(told[0]) if told else {"error": True}
    except RecursionError:
        raise BadSql("this SELECT is nested too deeply") from None
    if tree["error"]:
        raise BadSql(f"this SELECT cannot be read: {tree.get('error_message', 'no reason given')}")
    for node, tables in _walk(tree["statements"]):
        _check_node(node, tables)
    return statements[0].query.strip().rstrip(";")


def _check_node(node: dict[str, Any], tables: frozenset[str]) -> None:
    kind = node.get("type")
    if isinstance(kind, str) and not _NODES.fullmatch(kind):
        raise BadSql(f"{kind} is not possible here: one SELECT over the views {', '.join(sorted(VIEWS))}")
    if "function_name" in node:
        name = str(node["function_name"])
        if name.casefold() not in _FUNCTIONS or any(node.get(part) for part in ("schema", "catalog")):
            raise BadSql(f"the function {name[:80]} is not possible here")
    if kind == "BASE_TABLE":
        name = str(node.get("table_name"))
        if name.casefold() not in tables or node.get("schema_name") or node.get("catalog_name"):
            raise BadSql(f"there is no view {name[:80]!r} here; there are: {', '.join(sorted(VIEWS))}")


def _walk(statements: Any) -> Iterator[tuple[dict[str, Any], frozenset[str]]]:
    """Every node of the tree, with the tables that may be named there: our views and the common tables in scope."""
    waiting: list[tuple[Any, frozenset[str]]] = [(statements, VIEWS)]
    while waiting:
        one, tables = waiting.pop()
        if isinstance(one, list):
            waiting += [(value, tables) for value in one]
            continue
        if not isinstance(one, dict):
            continue
        rest = dict(one)
        for pair in (rest.pop("cte_map", None) or {}).get("map", ()):
            # Behind its definition a common table is known, and within it only to itself, if it is recursive.
            name, body = str(pair["key"]).casefold(), pair["value"]
            recursive = (body.get("query_node") or {}).get("type") == "RECURSIVE_CTE_NODE"
            waiting.append((body, tables | {name} if recursive else tables))
            tables |= {name}
        if rest.get("type") == "TABLE_FUNCTION":
            function = dict(rest.pop("function"))
            name = str(function.pop("function_name"))
            if name.casefold() not in _TABLE_FUNCTIONS or any(function.get(part) for part in ("schema", "catalog")):
                raise BadSql(f"the table function {name[:80]} is not possible here")
            waiting.append((function, tables))
        yield rest, tables
        waiting += [(value, tables) for value in rest.values()]


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0][:500]
