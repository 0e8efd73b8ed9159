-- The requests of one SLO in [$from_ns, $to_ns), the newest 20,000, in order of start, and whether each broke it.
SELECT start_ns, end_ns, operation,
       coalesce(status = 2, FALSE) OR coalesce(end_ns - start_ns > $threshold_ns, FALSE) AS hit
FROM (
    SELECT *
    FROM request
    WHERE service = $service AND ($operation IS NULL OR operation = $operation)
      AND start_ns >= $from_ns AND start_ns < $to_ns
    ORDER BY start_ns DESC, span_id DESC LIMIT 20_000
)
ORDER BY start_ns, span_id;
