-- Calls between services and to dependencies, summed up per minute of the call. Of each edge the 50 operations that were
-- called most often; the others, which may be names with ids in them, have '' as their operation.
-- In: $from_ns, $to_ns (whole minutes), $minutes (those of them that are wanted).
INSERT INTO edge_minute BY NAME
WITH
made AS (
    SELECT *, minute_of(start_ns) AS minute, count(*) OVER (
        PARTITION BY minute_of(start_ns), caller, callee_type, callee, operation
    ) AS alike
    FROM calls_in($from_ns, $to_ns)
    WHERE minute_of(start_ns) IN (SELECT unnest($minutes::BIGINT[]))
),
ranked AS (
    SELECT *, dense_rank() OVER (
        PARTITION BY minute, caller, callee_type, callee ORDER BY alike DESC, operation
    ) AS place
    FROM made
)
SELECT
    minute, caller, callee_type, callee, CASE WHEN place <= 50 THEN operation ELSE '' END AS operation,
    count(*) AS calls, count(*) FILTER (failed(status)) AS errors, count(*)::DOUBLE AS weight,
    sum(duration_ns::HUGEINT) AS duration_ns, count(gap_ns) AS answered, sum(gap_ns::HUGEINT) AS gap_ns,
    histogram(duration_class(duration_ns)) AS durations,
    histogram(duration_class(gap_ns)) FILTER (gap_ns IS NOT NULL) AS gaps
FROM ranked
GROUP BY ALL ORDER BY minute, calls DESC;
