-- On which side of a call did the time between caller and callee pass? Their other edges tell: whose calls, or whose
-- callers, were late at the same time.
--
-- In:  near_call; $caller, $callee (services), $from_ns, $to_ns (the slow requests), $since_ns (the time before).
-- Out: one row per edge that shares an end with this one: side ('caller' | 'callee'), the other end, how much longer its
--      calls were under way than before (ns, median), and how many calls that is.
SELECT
    CASE WHEN caller = $caller THEN 'caller' ELSE 'callee' END AS side,
    CASE WHEN caller = $caller THEN callee ELSE caller END     AS other,
    greatest(
        0, median(gap_ns) FILTER (start_ns >= $from_ns) - coalesce(median(gap_ns) FILTER (start_ns < $from_ns), 0)
    )::BIGINT AS later_ns,
    count(*) FILTER (start_ns >= $from_ns) AS calls
FROM near_call
WHERE start_ns BETWEEN $since_ns AND $to_ns AND (caller = $caller) <> (callee = $callee)
GROUP BY ALL
HAVING calls >= 3 AND count(*) FILTER (start_ns < $from_ns) >= 3
ORDER BY side, other;
