-- What is usual for the operations that had requests in [$from_ns, $to_ns), seen from $at_ns: the hour before, less the
-- last minute (trouble that nobody has noticed yet) and less the time inside incidents. At most about 2,000 requests of
-- each are looked at, picked by their ids.
--
-- Out: base(service, operation, requests, base_ns, slow_ns, slow_hits, error_hits, tail_ns, tail_hits): tail_ns is what hardly
--          any request takes, null where that is no more than slow_ns,
--      base_cause(service, operation, cause, part_service, address, usual_ns, least_ns, hits).
CREATE OR REPLACE TEMP TABLE base_request AS
WITH
watched AS (
    -- The 2,000 with most requests: more are ids in the names of operations, and none of those has a usual.
    SELECT service, operation FROM request WHERE start_ns >= $from_ns AND start_ns < $to_ns
    GROUP BY service, operation
    ORDER BY count(*) DESC, service, operation
    LIMIT 2000
),
as_of AS (
    SELECT watched.service, watched.operation,
           least($at_ns - 60_000_000_000, min(unusual.start_ns) FILTER (unusual.end_ns > $at_ns - 60_000_000_000))
               AS as_of_ns
    FROM watched
    LEFT JOIN unusual ON unusual.service = watched.service AND unusual.operation = watched.operation
        AND unusual.start_ns <= $at_ns
    GROUP BY ALL
),
bounds AS (
    SELECT as_of.service, as_of.operation, as_of_ns,
           as_of_ns - 3_600_000_000_000
               - coalesce(sum(least(unusual.end_ns, as_of_ns) - unusual.start_ns), 0)::BIGINT AS since_ns
    FROM as_of
    LEFT JOIN unusual ON unusual.service = as_of.service AND unusual.operation = as_of.operation
        AND unusual.start_ns < as_of_ns AND unusual.end_ns > as_of_ns - 3_600_000_000_000
    GROUP BY as_of.service, as_of.operation, as_of_ns
),
before AS (
    SELECT
        ordinary_request.service,
        ordinary_request.operation,
        trace_id,
        span_id,
        start_ns,
        end_ns - start_ns AS duration_ns,
           status = 2 AS is_error,
           fair AND weight > 0 AS is_sample,
           count(*) OVER (PARTITION BY ordinary_request.service, ordinary_request.operation) AS together
    FROM ordinary_request JOIN bounds USING (service, operation)
    WHERE end_ns <= as_of_ns AND end_ns > since_ns
      AND start_ns > (SELECT min(since_ns) FROM bounds) - 3_600_000_000_000
)
SELECT *, row_number() OVER (PARTITION BY service, operation ORDER BY duration_ns, span_id) AS place,
       count(*) OVER (PARTITION BY service, operation) AS sampled
FROM before
WHERE hash(span_id) % (1 + together // 2000) = 0 AND together >= 20;

CREATE OR REPLACE TEMP TABLE base AS
WITH middle AS (
    SELECT
        service, operation,
        round(avg(duration_ns) FILTER (place BETWEEN floor(0.1 * sampled) + 1 AND ceil(0.5 * sampled)))::BIGINT
            AS base_ns,
        quantile_disc(duration_ns, 0.97) AS nearly_all_ns
    FROM base_request
    GROUP BY ALL
),
bounds AS (
    SELECT service, operation, base_ns, greatest(2 * base_ns + 1, base_ns + 50_000_000) AS slow_ns,
           nearly_all_ns + greatest(50_000_000, base_ns // 4) AS tail_ns
    FROM middle
)
SELECT service, operation, base_ns, slow_ns, nullif(greatest(tail_ns, slow_ns), slow_ns) AS tail_ns,
       count(*) AS requests,
       count(*) FILTER (duration_ns >= slow_ns) AS slow_hits,
       count(*) FILTER (is_error) AS error_hits,
       count(*) FILTER (duration_ns >= tail_ns AND tail_ns > slow_ns) AS tail_hits
FROM base_request JOIN bounds USING (service, operation)
GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE base_cause AS
WITH
-- Those with a ledger that are a fair sample of all.
sample AS (
    SELECT *, place BETWEEN floor(0.1 * sampled) + 1 AND ceil(0.5 * sampled) AS is_middle
    FROM base_request WHERE is_sample
),
samples AS (
    SELECT service, operation, count(*) AS ledgers, greatest(1, count(*) FILTER (is_middle)) AS in_middle
    FROM sample GROUP BY ALL
),
lost AS (
    SELECT
        sample.service, sample.operation, sample.place, is_middle, cause, part.service AS part_service,
           address_of(entity_type, entity_id) AS address, sum(lost_ns)::BIGINT AS lost_ns
    FROM sample JOIN part USING (trace_id, span_id, start_ns)
    GROUP BY ALL
),
usual AS (
    SELECT service, operation, cause, part_service, address,
           (coalesce(sum(lost_ns) FILTER (is_middle), 0) / any_value(in_middle))::BIGINT AS usual_ns,
           -- What 97 % of the requests do not exceed, those that lose nothing included.
           coalesce(list_reverse_sort(list(lost_ns))[1 + (3 * any_value(ledgers)) // 100], 0) AS nearly_all_ns,
           any_value(ledgers) AS ledgers
    FROM lost JOIN samples USING (service, operation) GROUP BY ALL
),
-- A call and a limit are compared with themselves, too: what hardly any request loses to them is a sign of trouble where it
-- is a tenth of the operation.
bound AS (
    SELECT usual.* EXCLUDE (nearly_all_ns), requests,
           least(
               usual_ns + greatest(50_000_000, base_ns // 4),
               CASE WHEN NOT starts_with(cause, 'app.')
                   THEN greatest(nearly_all_ns + 50_000_000, usual_ns + base_ns // 10) END
           ) AS least_ns
    FROM usual JOIN base USING (service, operation)
)
SELECT bound.* EXCLUDE (ledgers, requests),
       round(count(*) FILTER (lost_ns >= least_ns) * any_value(requests) / any_value(ledgers))::BIGINT AS hits
FROM bound
JOIN lost USING (service, operation, cause, part_service, address)
GROUP BY ALL;
