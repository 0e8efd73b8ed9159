-- How many requests of each operation began in each bin of time, and how many of them failed and were slow; durations added up.
--
-- In: request_summed, request_beside (summaries/cover.py); $bin_ns. Out: service, operation, and lists by bin.
WITH
counted AS (
    SELECT service, operation, minute_begins(minute) // $bin_ns AS bin, requests, errors, slow, duration_ns
    FROM request_summed
    UNION ALL
    SELECT
        service, operation, start_ns // $bin_ns, count(*), count(*) FILTER (failed(status)), count(*) FILTER (slow),
        sum(end_ns - start_ns)
    FROM request_beside GROUP BY ALL
),
added AS (
    SELECT
        service, operation, bin, sum(requests)::DOUBLE AS requests, sum(errors)::DOUBLE AS errors,
        sum(slow)::DOUBLE AS slow, sum(duration_ns)::DOUBLE / 1e9 AS seconds
    FROM counted GROUP BY ALL
)
SELECT
    service, operation, list(bin ORDER BY bin), list(requests ORDER BY bin), list(errors ORDER BY bin),
    list(slow ORDER BY bin), list(seconds ORDER BY bin)
FROM added GROUP BY service, operation ORDER BY service, operation;
