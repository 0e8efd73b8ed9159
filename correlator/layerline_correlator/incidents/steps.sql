-- How many requests showed which sign of trouble, for every step of five seconds in [$from_ns, $to_ns).
-- In: base, base_cause (base.sql). Out: step(service, operation, step_ns, requests, slow, errors, tail),
--     step_cause(service, operation, step_ns, cause, part_service, address, hits).
CREATE OR REPLACE TEMP TABLE step AS
SELECT service, operation, start_ns - start_ns % 5_000_000_000 AS step_ns, count(*) AS requests,
       count(*) FILTER (end_ns - start_ns >= slow_ns) AS slow, count(*) FILTER (status = 2) AS errors,
       count(*) FILTER (end_ns - start_ns >= tail_ns) AS tail
FROM request JOIN base USING (service, operation)
WHERE start_ns >= $from_ns AND start_ns < $to_ns
GROUP BY ALL;

-- Nothing below 50 ms is a sign, whatever is usual; of a cause that was not there before, a quarter of the operation is one,
-- a tenth where it is a call or a limit (base.sql). A ledger counts for the requests that it stands for.
CREATE OR REPLACE TEMP TABLE step_cause AS
WITH lost AS (
    SELECT
        request.service,
        request.operation,
        request.start_ns - request.start_ns % 5_000_000_000 AS step_ns,
        request.span_id,
           request.weight,
           part.cause,
           part.service AS part_service,
           address_of(entity_type, entity_id) AS address,
           sum(lost_ns) AS lost_ns
    FROM part JOIN request USING (trace_id, span_id, start_ns)
    WHERE part.start_ns >= $from_ns AND part.start_ns < $to_ns AND lost_ns >= 50_000_000
      AND request.start_ns >= $from_ns AND request.start_ns < $to_ns
    GROUP BY ALL
)
SELECT lost.service, lost.operation, step_ns, lost.cause, lost.part_service, lost.address,
       round(sum(weight))::BIGINT AS hits
FROM lost
JOIN base USING (service, operation)
LEFT JOIN base_cause USING (service, operation, cause, part_service, address)
WHERE lost_ns >= coalesce(
    base_cause.least_ns, greatest(50_000_000, base_ns // CASE WHEN starts_with(cause, 'app.') THEN 4 ELSE 10 END))
GROUP BY ALL;
