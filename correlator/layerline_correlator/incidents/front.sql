-- The requests that users waited for: those of the outermost operations that were hit, of each trace the longest, from a
-- minute before the incident to a minute after it.
-- In: judged (verdict.py), $from_ns, $to_ns. Out: front(trace_id, span_id, service, operation, start_ns, duration_ns, weight,
--     fair),
--     front_part(trace_id, span_id, operation, start_ns, cause, part_service, entity_type, entity_id, lost_ns, low_ns, high_ns,
--     weight).
CREATE OR REPLACE TEMP TABLE front AS
WITH operations AS (
    SELECT DISTINCT request.service, request.operation
    FROM judged JOIN request USING (trace_id, span_id, start_ns)
)
SELECT trace_id, span_id, service, operation, start_ns, end_ns - start_ns AS duration_ns, weight, fair
FROM request SEMI JOIN operations USING (service, operation)
WHERE start_ns >= $from_ns AND start_ns < $to_ns
QUALIFY row_number() OVER (PARTITION BY trace_id ORDER BY end_ns - start_ns DESC, start_ns, span_id) = 1;

CREATE OR REPLACE TEMP TABLE front_part AS
SELECT trace_id, span_id, front.service, operation, start_ns, cause, part.service AS part_service, entity_type,
       -- A service is one entity, not one for each of its worker processes (verdict/judge.py).
       CASE WHEN entity_type = 'process' AND part.service <> '' THEN part.service ELSE entity_id END AS entity_id,
       lost_ns, low_ns, high_ns, weight
FROM front JOIN part USING (trace_id, span_id, start_ns)
WHERE part.start_ns >= $from_ns AND part.start_ns < $to_ns;
