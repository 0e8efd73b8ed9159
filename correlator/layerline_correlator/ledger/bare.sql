-- The requests of traces that could not be worked out: kept without parts, all of their time unexplained. In: $ids,
-- $from_ns, $to_ns (around the starts of their spans), $why, $now_ns. A trace is one request here, that of its longest
-- span without a caller.
CREATE OR REPLACE TEMP TABLE bare_request AS
WITH
received AS (
    FROM span WHERE trace_id IN (SELECT unnest($ids::VARCHAR[])) AND start_ns BETWEEN $from_ns AND $to_ns
)
SELECT received.*, greatest(received.start_ns, received.end_ns) AS until_ns
FROM received
LEFT JOIN received AS caller
    ON caller.trace_id = received.trace_id AND caller.span_id = received.parent_span_id
QUALIFY row_number() OVER (
    PARTITION BY received.trace_id
    ORDER BY
        caller.span_id IS NULL DESC, until_ns::HUGEINT - received.start_ns DESC, received.start_ns, received.span_id
) = 1;

DELETE FROM request WHERE trace_id IN (SELECT trace_id FROM bare_request) AND start_ns BETWEEN $from_ns AND $to_ns;
DELETE FROM part    WHERE trace_id IN (SELECT trace_id FROM bare_request) AND start_ns BETWEEN $from_ns AND $to_ns;
DELETE FROM stay    WHERE trace_id IN (SELECT trace_id FROM bare_request) AND start_ns BETWEEN $from_ns AND $to_ns;
DELETE FROM refused WHERE trace_id IN (SELECT trace_id FROM bare_request) AND start_ns BETWEEN $from_ns AND $to_ns;

INSERT INTO request BY NAME
SELECT
    trace_id, span_id, TRUE AS root, coalesce(resource.service, '') AS service, name AS operation,
    bare_request.resource, resource.container_id, resource.host, start_ns, until_ns AS end_ns, status,
    until_ns - start_ns AS unexplained_ns, 0 AS skew_adjusted_ns, FALSE AS slow, 0.0 AS join_confidence,
    $now_ns::BIGINT AS judged_ns
FROM bare_request
LEFT JOIN resource ON resource.resource = bare_request.resource;

INSERT INTO stay BY NAME
SELECT
    trace_id, span_id, start_ns, coalesce(resource.service, '') AS service, resource.container_id, resource.host,
    until_ns - start_ns AS own_ns, until_ns - start_ns AS open_ns
FROM bare_request
LEFT JOIN resource ON resource.resource = bare_request.resource;

INSERT INTO refused BY NAME
SELECT trace_id, span_id, start_ns, $why::VARCHAR AS why FROM bare_request;
