-- Which spans are in the bundle of an incident, and of which time. In: bundle_trace. Out: bundle_span,
-- bundle_time(from_ns, to_ns).
-- Who else waited in a container that was late to begin or to answer: held_up.sql takes it off, within a reading's interval.
CREATE OR REPLACE TEMP TABLE bundle_beside AS
WITH
late AS (
    SELECT DISTINCT
        resource.container_id,
        unnest(range(caller.start_ns // 1_000_000_000 - 5,
                     least(caller.end_ns, caller.start_ns + 3_600_000_000_000) // 1_000_000_000 + 6)) AS second
    FROM span AS caller
    SEMI JOIN bundle_trace ON bundle_trace.trace_id = caller.trace_id
    JOIN span AS answer ON answer.trace_id = caller.trace_id AND answer.parent_span_id = caller.span_id
        AND answer.resource <> caller.resource
    JOIN resource ON resource.resource = answer.resource
    WHERE caller.kind = 3 AND caller.end_ns - caller.start_ns > answer.end_ns - answer.start_ns + 10_000_000
)
SELECT DISTINCT trace_id, span_id
FROM (
    SELECT trace_id, span_id, container_id,
           unnest(range(start_ns // 1_000_000_000, least(end_ns, start_ns + 3_600_000_000_000) // 1_000_000_000 + 1))
               AS second
    FROM span JOIN resource ON resource.resource = span.resource
    WHERE thread_runqueue_ns > 0 AND container_id IN (SELECT container_id FROM late)
      AND start_ns BETWEEN (SELECT min(second) - 60 FROM late
      ) * 1_000_000_000 AND (SELECT max(second) + 1 FROM late
      ) * 1_000_000_000
) SEMI JOIN late USING (container_id, second);

CREATE OR REPLACE TEMP TABLE bundle_span AS
SELECT span.* EXCLUDE (received_no) FROM span
WHERE trace_id IN (FROM bundle_trace) OR (trace_id, span_id) IN (FROM bundle_beside)
ORDER BY start_ns, trace_id, span_id;

CREATE OR REPLACE TEMP TABLE bundle_time AS
SELECT min(start_ns) - 130_000_000_000 AS from_ns, max(end_ns) + 130_000_000_000 AS to_ns FROM bundle_span;
