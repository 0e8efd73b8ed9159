-- What requests lost, to whom: of a window and of the time before it. From summed-up minutes, and from rows beside them.
--
-- In: $from_ns, $to_ns (the window), $before_ns, $before_to_ns (the time before), $block_ns (both are divided into blocks
--     of this length, from $origin_ns on); $enough: how many requests are enough to compare with;
--     compared_sender(sender): whose requests; the views of summaries/cover.py around both times.

-- Times before the window that nothing is compared with, of each operation: those of incidents in which it was found, and
-- of those that touched other operations of its service, unless too few requests were left ($enough): a rare operation
-- is slow in these too, and seldom often enough to be found so.
-- makes: compared_unusual
-- reads: compared_sender, request_beside, request_summed
CREATE OR REPLACE TEMP TABLE compared_unusual AS
WITH
before AS (
    SELECT service, operation, start_ns, start_ns + 1 AS end_ns, 1 AS requests FROM request_beside
    WHERE weight > 0 AND start_ns >= $before_ns AND start_ns < $before_to_ns
      AND row(service, operation, resource, container_id) IN (SELECT sender FROM compared_sender)
    UNION ALL
    SELECT service, operation, minute_begins(minute), minute_begins(minute + 1), requests FROM request_summed
    WHERE minute_begins(minute) >= $before_ns AND minute_begins(minute) < $before_to_ns
      AND row(service, operation, resource, container_id) IN (SELECT sender FROM compared_sender)
),
calm AS (
    SELECT service, operation, sum(requests) AS requests FROM before
    WHERE NOT EXISTS (
        FROM unusual WHERE unusual.service = before.service
        AND before.end_ns > unusual.start_ns AND before.start_ns < unusual.end_ns)
    GROUP BY ALL
)
SELECT DISTINCT asked.service, asked.operation, start_ns, end_ns
FROM (SELECT DISTINCT service, operation FROM before) AS asked
JOIN unusual ON unusual.service = asked.service
LEFT JOIN calm ON calm.service = asked.service AND calm.operation = asked.operation
WHERE unusual.operation = asked.operation OR calm.requests >= $enough;

-- Requests with a ledger that are read row by row.
-- makes: compared_request
-- reads: compared_sender, compared_unusual, request_beside
CREATE OR REPLACE TEMP TABLE compared_request AS
SELECT
    service, operation, start_ns >= $from_ns AND start_ns < $to_ns AS is_now,
    (start_ns - $origin_ns) // $block_ns AS block, trace_id, span_id, start_ns, weight
FROM request_beside
WHERE weight > 0 AND row(service, operation, resource, container_id) IN (SELECT sender FROM compared_sender)
  AND (
    (start_ns >= $from_ns AND start_ns < $to_ns)
    OR (start_ns >= $before_ns AND start_ns < $before_to_ns AND NOT EXISTS (
        FROM compared_unusual AS unusual
        WHERE unusual.service = request_beside.service AND unusual.operation = request_beside.operation
        AND request_beside.start_ns >= unusual.start_ns AND request_beside.start_ns < unusual.end_ns))
  );

-- The minutes that are read as they are summed up, of each operation.
-- makes: compared_minute
-- reads: compared_sender, compared_unusual, request_summed
CREATE OR REPLACE TEMP TABLE compared_minute AS
SELECT
    service, operation, minute, minute_begins(minute) >= $from_ns AND minute_begins(minute) < $to_ns AS is_now,
    (minute_begins(minute) - $origin_ns) // $block_ns AS block, sum(weight) AS weight
FROM request_summed
WHERE row(service, operation, resource, container_id) IN (SELECT sender FROM compared_sender)
  AND (
    (minute_begins(minute) >= $from_ns AND minute_begins(minute) < $to_ns)
    OR (minute_begins(minute) >= $before_ns AND minute_begins(minute) < $before_to_ns AND NOT EXISTS (
        FROM compared_unusual AS unusual
        WHERE unusual.service = request_summed.service AND unusual.operation = request_summed.operation
        AND minute_begins(minute + 1) > unusual.start_ns AND minute_begins(minute) < unusual.end_ns))
  )
GROUP BY ALL HAVING sum(weight) > 0;

-- How many requests the ledgers of each block stand for, and for how many a mean of them is worth (`worth`): fewer where
-- some stand for many.
-- makes: compared_block
-- reads: compared_request, compared_minute
CREATE OR REPLACE TEMP TABLE compared_block AS
SELECT service, operation, is_now, block, sum(weight) AS weight, sum(squares) AS squares
FROM (
    SELECT service, operation, is_now, block, weight, weight * weight AS squares FROM compared_request
    UNION ALL
    SELECT service, operation, is_now, block, weight, weight FROM compared_minute
)
GROUP BY ALL;

-- What each request of a row lost to whom, by cause; what no cause explains by where it passed.
-- makes: request_loss
-- reads: compared_request, part_beside, stay_beside
CREATE OR REPLACE TEMP TABLE request_loss AS
SELECT
    request.service, operation, is_now, block, trace_id, span_id, start_ns, weight, cause,
    part.service AS at_service, entity_type, entity_id, lost_ns, low_ns, high_ns
FROM compared_request AS request JOIN part_beside AS part USING (trace_id, span_id, start_ns)
UNION ALL
SELECT
    request.service, operation, is_now, block, trace_id, span_id, start_ns, weight, 'unexplained', stay.service,
    CASE WHEN stay.container_id IS NULL THEN 'process' ELSE 'container' END,
    coalesce(stay.container_id, stay.service, request.service), open_ns, 0, open_ns
FROM compared_request AS request JOIN stay_beside AS stay USING (trace_id, span_id, start_ns)
WHERE open_ns > 0;

-- The same of the minutes. Where the time that nothing explains passed is known of the ledgers that there are; how much
-- of it there was, of all requests for which they stand.
-- makes: minute_loss
-- reads: compared_minute, compared_sender, part_summed, stay_summed
-- only with: compared_minute
CREATE OR REPLACE TEMP TABLE minute_loss AS
WITH
lost AS (
    SELECT service, operation, is_now, block, cause, entity_type, entity_id, sum(lost_ns) AS lost_ns,
           sum(low_ns) AS low_ns, sum(high_ns) AS high_ns
    FROM part_summed JOIN compared_minute USING (service, operation, minute)
    WHERE row(service, operation, resource, container_id) IN (SELECT sender FROM compared_sender)
    GROUP BY ALL
),
place AS (
    SELECT service, operation, is_now, block, at_service, at_container_id, sum(open_ns)::DOUBLE AS placed_ns
    FROM stay_summed JOIN compared_minute USING (service, operation, minute)
    WHERE row(service, operation, resource, container_id) IN (SELECT sender FROM compared_sender)
    GROUP BY ALL HAVING placed_ns > 0
),
share AS (
    SELECT *, placed_ns / sum(placed_ns) OVER (PARTITION BY service, operation, is_now, block) AS share FROM place
)
SELECT service, operation, is_now, block, cause, NULL AS at_service, entity_type, entity_id, lost_ns, low_ns, high_ns
FROM lost WHERE cause <> 'unexplained'
UNION ALL
SELECT
    service, operation, is_now, block, 'unexplained', at_service,
    CASE WHEN at_container_id IS NULL THEN 'process' ELSE 'container' END,
    coalesce(at_container_id, at_service, service), lost_ns * coalesce(share, 1), 0, lost_ns * coalesce(share, 1)
FROM lost LEFT JOIN share USING (service, operation, is_now, block)
WHERE cause = 'unexplained' AND lost_ns > 0;

-- Which service runs in a container; none where several do.
-- makes: compared_home
-- reads: compared_request, compared_minute, stay_beside, stay_summed
CREATE OR REPLACE TEMP TABLE compared_home AS
SELECT container_id, min(service) AS service
FROM (
    SELECT container_id, service FROM stay_beside SEMI JOIN compared_request USING (trace_id, span_id, start_ns)
    UNION ALL
    SELECT at_container_id, at_service FROM stay_summed SEMI JOIN compared_minute USING (service, operation, minute)
)
WHERE container_id IS NOT NULL
GROUP BY container_id HAVING count(DISTINCT service) = 1;

-- Who was called under a name, where a service of that name was received: `payment:50051`, `payment.shop.svc:80`.
-- makes: compared_callee
-- reads: request_loss, minute_loss, compared_request, compared_minute, stay_beside, stay_summed
CREATE OR REPLACE TEMP TABLE compared_callee AS
WITH
service AS (
    SELECT DISTINCT service FROM stay_beside SEMI JOIN compared_request USING (trace_id, span_id, start_ns)
    UNION
    SELECT DISTINCT at_service FROM stay_summed SEMI JOIN compared_minute USING (service, operation, minute)
),
called AS (
    SELECT DISTINCT entity_id FROM request_loss WHERE entity_type = 'service'
    UNION
    SELECT DISTINCT entity_id FROM minute_loss WHERE entity_type = 'service'
)
SELECT entity_id, any_value(service.service) AS service
FROM called JOIN service
    ON service.service IN (regexp_extract(entity_id, '^[^:/]+'), regexp_extract(entity_id, '^[^.:/]+'), entity_id)
GROUP BY entity_id;
