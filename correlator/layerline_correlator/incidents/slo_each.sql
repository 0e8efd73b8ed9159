-- As slo_counts.sql, for one SLO that need not be kept: of $service and $operation, where '*' stands for each, counted by
-- itself, and no operation for all of them together.
SELECT service, operation, unnest(burn_windows_s()) AS window_s,
       unnest(count_in_burn_windows(start_ns, TRUE, $now_ns)) AS requests,
       unnest(count_in_burn_windows(start_ns, is_bad, $now_ns)) AS bad
FROM (
    SELECT service, CASE WHEN $operation IS NOT NULL THEN operation END AS operation, start_ns,
           coalesce(status = 2, FALSE) OR coalesce(end_ns - start_ns > $threshold_ns, FALSE) AS is_bad
    FROM request
    WHERE $service IN (service, '*') AND ($operation IS NULL OR $operation IN (operation, '*'))
      AND start_ns >= $now_ns - 259_200_000_000_000 AND start_ns < $now_ns
)
GROUP BY service, operation
ORDER BY ALL;
