-- Many alike calls: how many of them did this operation make before?

-- The calls to each dependency, counted.
-- makes: dependency_call
-- reads: piece
-- only where: piece: is_dependency
CREATE OR REPLACE TEMP TABLE dependency_call AS
SELECT
    piece_no, request_no, coalesce(service, '') AS service,
    coalesce(nullif(address, ''), dependency_kind, name) AS entity_id,
    count(*)
        OVER (PARTITION BY request_no, coalesce(service, ''), coalesce(nullif(address, ''), dependency_kind, name))
        AS calls
FROM piece WHERE is_dependency
QUALIFY calls >= 10;

-- Per call to a dependency beyond the usual number: the share of it that is beyond.
-- makes: chatter
-- reads: dependency_call, entry
-- only with: dependency_call
CREATE OR REPLACE TEMP TABLE chatter AS
WITH
many AS (SELECT DISTINCT request_no, service, entity_id, calls FROM dependency_call),
asked AS (
    SELECT many.*, entry.service AS of_service, entry.name AS operation, entry.start_ns, entry.trace_id
    FROM many JOIN entry USING (request_no)
),
-- the last hundred of the same operation in the hour before
before AS (
    SELECT asked.request_no, asked.service, asked.entity_id, request.trace_id, request.span_id, request.start_ns
    FROM asked
    JOIN ordinary_request AS request ON request.service = asked.of_service AND request.operation = asked.operation
        AND request.fair AND request.weight > 0
        AND request.end_ns <= asked.start_ns AND request.start_ns > asked.start_ns - 3_600_000_000_000
    QUALIFY row_number()
        OVER (PARTITION BY asked.request_no, asked.service, asked.entity_id ORDER BY request.start_ns DESC)
        <= 100
),
usual_calls_of AS (
    SELECT
        before.request_no,
        before.service,
        before.entity_id,
        count(*) AS requests,
        median(coalesce(part.calls, 0)) AS calls
    FROM before
    LEFT JOIN
        part
        ON part.trace_id = before.trace_id AND part.span_id = before.span_id AND part.start_ns = before.start_ns
        AND part.cause = 'dependency.slow' AND part.service = before.service AND part.entity_id = before.entity_id
    GROUP BY ALL
)
-- Without a usual, one call for each thing asked would have been enough.
SELECT calls.piece_no, calls.calls, entity_id, CASE WHEN requests >= 20 THEN usual_calls_of.calls END AS usual_calls,
       1 - CASE WHEN requests >= 20 THEN usual_calls_of.calls ELSE 1 END / calls.calls AS share
FROM dependency_call AS calls
JOIN many USING (request_no, service, entity_id, calls)
LEFT JOIN usual_calls_of USING (request_no, service, entity_id)
WHERE CASE
    WHEN requests >= 20 THEN calls.calls >= 2 * usual_calls_of.calls AND calls.calls >= usual_calls_of.calls + 5 ELSE
        calls.calls >= 20
END;
