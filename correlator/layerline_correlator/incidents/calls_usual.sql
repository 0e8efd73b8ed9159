-- From when on a call is late, by caller, callee and operation, and how often calls usually are late or fail: from the last
-- 60 minutes, of those that were read, in which neither end was in trouble.
--
-- In:  call_past (verdict/edges.sql), trouble, $at_ns.
-- Out: call_usual(caller, callee_type, callee, operation, calls, late_ns, late_gap_ns, late_hits, failed_hits, late_ratio,
--          failed_ratio): a call is late when it, or what it takes longer than its answer, is at least 50 ms and a quarter of
--          the usual longer than 97 % of the calls are; the hits are how many were, and the ratios the share of the calls that
--          were late, or failed, in all but 5 % of the minutes with at least 10 calls.
CREATE OR REPLACE TEMP TABLE call_usual AS
WITH
calm AS (
    SELECT * FROM call_past
    WHERE NOT EXISTS (
        SELECT 1 FROM trouble
        WHERE trouble.service IN (call_past.caller, call_past.callee) AND NOT trouble.lasting
            AND trouble.start_ns < (call_past.minute + 1) * 60_000_000_000
            AND coalesce(trouble.end_ns, $at_ns) > call_past.minute * 60_000_000_000
    )
),
past AS (
    SELECT * FROM calm
    QUALIFY row_number() OVER (PARTITION BY caller, callee_type, callee, operation ORDER BY minute DESC) <= 60
),
known AS (
    SELECT caller, callee_type, callee, operation, sum(calls)::BIGINT AS calls, sum(errors)::BIGINT AS failed_hits
    FROM past
    GROUP BY ALL
    HAVING sum(calls) >= 20
    -- More are ids in the names of operations.
    ORDER BY sum(calls) DESC, caller, callee_type, callee, operation
    LIMIT 2000
),
counted AS (
    SELECT caller, callee_type, callee, operation, minute, calls, kind, entry.key AS class, entry.value::BIGINT AS times
    FROM (
        SELECT *, 'duration' AS kind, unnest(map_entries(durations)) AS entry FROM past
        UNION ALL
        SELECT *, 'gap' AS kind, unnest(map_entries(gaps)) AS entry FROM past
    )
),
classes AS (
    SELECT caller, callee_type, callee, operation, kind, class, sum(times) AS times
    FROM counted GROUP BY ALL
),
running AS (
    SELECT *, sum(times) OVER (edge ORDER BY class) AS so_far, sum(times) OVER (edge) AS together
    FROM classes
    WINDOW edge AS (PARTITION BY caller, callee_type, callee, operation, kind)
),
bound AS (
    SELECT caller, callee_type, callee, operation, kind,
           duration_of(min(class) FILTER (so_far >= 0.97 * together))
           + greatest(50_000_000, duration_of(min(class) FILTER (so_far >= 0.5 * together)) // 4) AS late_ns
    FROM running
    GROUP BY ALL
    HAVING any_value(together) >= 20
),
bounds AS (
    SELECT caller, callee_type, callee, operation,
           any_value(late_ns) FILTER (kind = 'duration') AS late_ns,
           any_value(late_ns) FILTER (kind = 'gap') AS late_gap_ns
    FROM bound GROUP BY ALL
),
late AS (
    SELECT caller, callee_type, callee, operation, minute, sum(times) FILTER (duration_of(class) >= late_ns) AS late
    FROM counted JOIN bound USING (caller, callee_type, callee, operation, kind)
    GROUP BY ALL
),
by_minute AS (
    SELECT caller, callee_type, callee, operation, least(calls, coalesce(late, 0)) AS late, calls, errors
    FROM past LEFT JOIN late USING (caller, callee_type, callee, operation, minute)
),
spread AS (
    SELECT caller, callee_type, callee, operation, sum(late)::BIGINT AS late_hits,
           coalesce(quantile_disc(late / calls, 0.95) FILTER (calls >= 10), 0) AS late_ratio,
           coalesce(quantile_disc(errors / calls, 0.95) FILTER (calls >= 10), 0) AS failed_ratio
    FROM by_minute GROUP BY ALL
)
SELECT
    known.caller, known.callee_type, known.callee, known.operation, calls, late_ns, late_gap_ns, late_hits, failed_hits,
    late_ratio, failed_ratio
FROM known
JOIN bounds USING (caller, callee_type, callee, operation)
JOIN spread USING (caller, callee_type, callee, operation)
WHERE late_ns IS NOT NULL;
