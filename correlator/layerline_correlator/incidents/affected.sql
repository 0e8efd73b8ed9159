-- The affected requests of some troubles, and those beside them: all requests of the operations while they lasted.
-- In: asked_trouble(trouble). Out: concerned(trouble, trace_id, span_id, …, duration_ns, affected, shared).
-- Shared is what began while one trouble of the operation was not over and the next, split off from it, had begun.
CREATE OR REPLACE TEMP TABLE concerned AS
WITH
alone AS (
    SELECT trouble.trouble, max(other.end_ns) FILTER (other.start_ns < trouble.start_ns)  AS from_ns,
                            min(other.start_ns) FILTER (other.start_ns > trouble.start_ns) AS to_ns
    FROM trouble
    SEMI JOIN asked_trouble USING (trouble)
    JOIN trouble AS other ON other.service = trouble.service AND other.operation = trouble.operation
        AND other.slo IS NULL AND trouble.slo IS NULL
    GROUP BY trouble.trouble
),
during AS (
    SELECT trouble.trouble, trouble.causes, trouble.slow_ns, list_has_any(signs, ['error', 'slo']) AS counts_errors,
           list_has_any(signs, ['late_calls', 'failed_calls']) AS counts_calls,
           request.trace_id, request.span_id, request.service, request.operation, request.resource, request.start_ns,
           request.end_ns, request.end_ns - request.start_ns AS duration_ns, status, request.weight,
           coalesce(request.start_ns < alone.from_ns, FALSE)
           OR coalesce(request.start_ns >= alone.to_ns, FALSE) AS shared
    FROM trouble
    SEMI JOIN asked_trouble USING (trouble)
    LEFT JOIN alone USING (trouble)
    JOIN request ON request.service = trouble.service AND request.operation = trouble.operation
        AND request.start_ns >= trouble.start_ns
        AND (trouble.end_ns IS NULL OR request.start_ns < trouble.end_ns)
),
hit AS (
    SELECT DISTINCT trouble, trace_id, span_id
    FROM (
        SELECT during.trouble, during.trace_id, during.span_id, sign
        FROM (SELECT *, unnest(causes) AS sign FROM during) AS during
        JOIN
            part
            ON part.trace_id = during.trace_id AND part.span_id = during.span_id AND part.start_ns = during.start_ns
            AND part.cause = sign.cause AND part.service = sign.service
            AND address_of(entity_type, entity_id) = sign.address
        GROUP BY ALL
        HAVING sum(lost_ns) >= any_value(sign.least_ns)
    )
)
SELECT during.* EXCLUDE (causes, slow_ns, counts_errors, counts_calls),
       duration_ns >= slow_ns OR (counts_errors AND status = 2) OR hit.trace_id IS NOT NULL
       OR (counts_calls AND hit_by_call.trace_id IS NOT NULL) AS affected
FROM during
LEFT JOIN hit USING (trouble, trace_id, span_id)
LEFT JOIN hit_by_call
    ON hit_by_call.trace_id = during.trace_id AND hit_by_call.span_id = during.span_id
    AND hit_by_call.start_ns = during.start_ns;
