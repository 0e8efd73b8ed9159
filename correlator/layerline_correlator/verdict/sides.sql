-- On which side of a call did the time between caller and callee pass? Their other edges tell: whose calls, or whose
-- callers, were late at the same time.
--
-- In:  $caller, $callee (services), $from_ns, $to_ns (the slow requests), $since_ns (the time before).
-- Out: one row per edge that shares an end with this one: side ('caller' | 'callee'), the other end, how much longer its
--      calls were under way than before (ns, median), and how many calls that is.
WITH
-- Who answered names the call as its parent, or shares its id (Zipkin, B3, Envoy).
answers AS (
    SELECT trace_id, unnest([parent_span_id, span_id]) AS call_id, resource, start_ns, end_ns
    FROM span
    WHERE kind = 2 AND start_ns BETWEEN $since_ns - 60_000_000_000 AND $to_ns + 60_000_000_000
),
calls AS (
    SELECT
        caller.service AS caller, callee.service AS callee, call.start_ns,
        (call.end_ns - call.start_ns) - (answer.end_ns - answer.start_ns) AS gap_ns
    FROM span AS call
    JOIN resource AS caller ON caller.resource = call.resource
    JOIN answers AS answer ON answer.trace_id = call.trace_id AND answer.call_id = call.span_id
    JOIN resource AS callee ON callee.resource = answer.resource
    WHERE call.kind = 3 AND call.start_ns BETWEEN $since_ns AND $to_ns
      AND (caller.service = $caller) <> (callee.service = $callee)
)
SELECT
    CASE WHEN caller = $caller THEN 'caller' ELSE 'callee' END AS side,
    CASE WHEN caller = $caller THEN callee ELSE caller END     AS other,
    greatest(
        0, median(gap_ns) FILTER (start_ns >= $from_ns) - coalesce(median(gap_ns) FILTER (start_ns < $from_ns), 0)
    )::BIGINT AS later_ns,
    count(*) FILTER (start_ns >= $from_ns) AS calls
FROM calls
GROUP BY ALL
HAVING calls >= 3 AND count(*) FILTER (start_ns < $from_ns) >= 3
ORDER BY side, other;
