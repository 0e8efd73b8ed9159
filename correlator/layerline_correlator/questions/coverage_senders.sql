-- Who sent spans in a window: who is to be tied (facts/join), and what coverage.sql counts. Second by second, and where
-- minutes are summed up (summaries/cover.py) once a minute.

-- makes: sent
-- reads: span_summed, span_beside
CREATE OR REPLACE TEMP TABLE sent AS
SELECT resource, first_ns AS at_ns, account, threshold, spans FROM span_summed
UNION ALL
SELECT
    resource, min(start_ns) AS at_ns, measured_by(account, account_reason, thread_cpu_ns) AS measured,
    max(attributes['layerline.sampling.threshold']) AS threshold, count(*) AS spans
FROM span_beside GROUP BY resource, start_ns // 1_000_000_000, measured;

-- makes: sighting
-- reads: sent
CREATE OR REPLACE TEMP TABLE sighting AS
SELECT DISTINCT resource, at_ns FROM sent;

-- makes: called_at
-- reads: span_summed, span_beside
CREATE OR REPLACE TEMP TABLE called_at AS
SELECT resource, any_value(address) AS address
FROM (
    SELECT resource, any_value(address) AS address FROM span_summed GROUP BY resource
    UNION ALL
    SELECT resource, local_address(any_value(attributes)) FROM span_beside WHERE is_server(kind) GROUP BY resource
)
GROUP BY resource;
