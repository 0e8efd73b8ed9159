-- Who sent spans in a window, second by second: who is to be tied (facts/join), and what coverage.sql counts. The window is
-- half-open, on the start of spans.

-- makes: sent
CREATE OR REPLACE TEMP TABLE sent AS
WITH one AS (
    SELECT
        resource,
        start_ns,
        start_ns // 1_000_000_000 AS second,
        attributes['layerline.sampling.threshold'] AS threshold,
        CASE WHEN coalesce(account, 'thread') IN ('thread', 'task') AND thread_cpu_ns IS NOT NULL THEN 'measured'
             ELSE coalesce(
                 account_reason, CASE WHEN account IS NULL THEN 'not sent by layerline run' ELSE 'unknown' END
             )
        END AS measured
    FROM span WHERE start_ns >= $from_ns AND start_ns < $to_ns
)
SELECT resource, min(start_ns) AS at_ns, measured AS account, max(threshold) AS threshold, count(*) AS spans
FROM one GROUP BY resource, second, measured;

-- makes: sighting
-- reads: sent
CREATE OR REPLACE TEMP TABLE sighting AS
SELECT DISTINCT resource, at_ns FROM sent;

-- makes: called_at
CREATE OR REPLACE TEMP TABLE called_at AS
SELECT resource, local_address(any_value(attributes)) AS address
FROM span WHERE start_ns >= $from_ns AND start_ns < $to_ns AND is_server(kind)
GROUP BY resource;
