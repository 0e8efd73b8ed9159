-- Calls between services and to dependencies, summed up per minute of the call.
-- In: $from_ns, $to_ns (whole minutes), $minutes (those of them that are wanted).
INSERT INTO edge_minute BY NAME
SELECT
    minute_of(start_ns) AS minute, caller, callee_type, callee, count(*) AS calls,
    count(*) FILTER (failed(status)) AS errors, count(*)::DOUBLE AS weight,
    sum(duration_ns::HUGEINT) AS duration_ns, count(gap_ns) AS answered, sum(gap_ns::HUGEINT) AS gap_ns,
    histogram(duration_class(duration_ns)) AS durations
FROM calls_in($from_ns, $to_ns)
WHERE minute_of(start_ns) IN (SELECT unnest($minutes::BIGINT[]))
GROUP BY ALL ORDER BY minute, calls DESC;
