-- Who called whom in a window, minute by minute, with distributions: what edges.py compares.
--
-- In:  edge_summed, call_beside (summaries/cover.py).
-- Out: caller, callee_type, callee, operation, minute, calls, errors, durations and gaps (each a map of how many calls by
--      class of duration; gaps of answered calls only).
SELECT
    caller, callee_type, callee, operation, minute, calls, errors, durations,
    coalesce(gaps, map([]::SMALLINT[], []::UBIGINT[])) AS gaps
FROM edge_summed
WHERE operation IS NOT NULL
UNION ALL
SELECT
    caller, callee_type, callee, operation, minute_of(start_ns) AS minute, count(*),
    count(*) FILTER (failed(status)),
    histogram(duration_class(duration_ns)),
    coalesce(
        histogram(duration_class(gap_ns)) FILTER (gap_ns IS NOT NULL), map([]::SMALLINT[], []::UBIGINT[])
    )
FROM call_beside
GROUP BY ALL
ORDER BY ALL;
