-- Which traces are in the bundle of an incident: its requests and those that they were compared with.
-- In: judged(trace_id, span_id, start_ns) (verdict.py), usual, recent_request (usual.sql). Out: bundle_trace.
CREATE OR REPLACE TEMP TABLE bundle_trace AS
SELECT DISTINCT trace_id FROM judged
UNION
SELECT DISTINCT trace_id
FROM recent_request
JOIN
    (SELECT service, operation, min(first_place) AS first_place, max(last_place) AS last_place FROM usual GROUP BY ALL
    ) AS compared
    USING (service, operation)
WHERE place BETWEEN compared.first_place AND compared.last_place;
