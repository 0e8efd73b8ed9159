-- How many requests each SLO had, and how many broke it, in the windows that burn rates are taken over: 5 minutes,
-- 30 minutes, 1 hour, 6 hours and 3 days before $now_ns.
SELECT slo, unnest(burn_windows_s()) AS window_s,
       unnest(count_in_burn_windows(start_ns, TRUE, $now_ns)) AS requests,
       unnest(count_in_burn_windows(start_ns, is_bad, $now_ns)) AS bad
FROM (
    SELECT slo.slo, request.start_ns,
           coalesce(status = 2, FALSE) OR coalesce(end_ns - start_ns > threshold_ns, FALSE) AS is_bad
    FROM slo
    LEFT JOIN request ON request.service = slo.service AND (slo.operation IS NULL OR request.operation = slo.operation)
        AND request.start_ns >= $now_ns - 259_200_000_000_000 AND request.start_ns < $now_ns
)
GROUP BY slo
ORDER BY ALL;
