-- How many requests each SLO had, and how many broke it, in the windows that burn rates are taken over: 5 minutes,
-- 30 minutes, 1 hour, 6 hours and 3 days before $now_ns.
SELECT slo, unnest([300, 1800, 3600, 21600, 259200]) AS window_s,
       unnest([
           count(*) FILTER (start_ns >= $now_ns - 300_000_000_000),
           count(*) FILTER (start_ns >= $now_ns - 1_800_000_000_000),
           count(*) FILTER (start_ns >= $now_ns - 3_600_000_000_000),
           count(*) FILTER (start_ns >= $now_ns - 21_600_000_000_000),
           count(trace_id)]) AS requests,
       unnest([
           count(*) FILTER (is_bad AND start_ns >= $now_ns - 300_000_000_000),
           count(*) FILTER (is_bad AND start_ns >= $now_ns - 1_800_000_000_000),
           count(*) FILTER (is_bad AND start_ns >= $now_ns - 3_600_000_000_000),
           count(*) FILTER (is_bad AND start_ns >= $now_ns - 21_600_000_000_000),
           count(*) FILTER (is_bad)]) AS bad
FROM (
    SELECT slo.slo, request.trace_id, request.start_ns,
           coalesce(status = 2, false) OR coalesce(end_ns - start_ns > threshold_ns, false) AS is_bad
    FROM slo
    LEFT JOIN request ON request.service = slo.service AND (slo.operation IS NULL OR request.operation = slo.operation)
        AND request.start_ns >= $now_ns - 259_200_000_000_000 AND request.start_ns < $now_ns
)
GROUP BY slo
ORDER BY ALL;
