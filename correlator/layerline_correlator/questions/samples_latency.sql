-- How many requests of each operation took how long, by bin of time. Durations that were summed up are those of their class
-- (duration_class), others are exact.
--
-- In: request_summed, request_beside (summaries/cover.py); $bin_ns; $bounds_ns, the upper bounds in order. Out: service,
-- operation, the number of the first bound that is not exceeded (that of the list's length where all are), lists by bin.
WITH
by_class AS (
    SELECT
        service, operation, minute_begins(minute) // $bin_ns AS bin, unnest(map_keys(durations)) AS class,
        unnest(map_values(durations)) AS requests
    FROM request_summed
),
counted AS (
    SELECT
        service, operation, bin, duration_of(class) AS duration_ns, sum(requests)::DOUBLE AS requests
    FROM by_class GROUP BY ALL
    UNION ALL
    SELECT service, operation, start_ns // $bin_ns, end_ns - start_ns, count(*) FROM request_beside GROUP BY ALL
),
bounded AS (
    SELECT
        service, operation, bin, sum(requests) AS requests,
        len(list_filter($bounds_ns::BIGINT[], lambda bound: bound < duration_ns)) AS bound_no
    FROM counted GROUP BY service, operation, bin, bound_no
)
SELECT service, operation, bound_no, list(bin ORDER BY bin), list(requests ORDER BY bin)
FROM bounded GROUP BY service, operation, bound_no ORDER BY service, operation, bound_no;
