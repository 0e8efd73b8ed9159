-- Who sent spans in a window, second by second: whom join.sql is to tie, and what coverage.sql counts.
--
-- In:  $from_ns, $to_ns: half-open, on the start of spans.
-- Out: sent, moment, called_at.
CREATE OR REPLACE TEMP TABLE sent AS
WITH one AS (
    SELECT
        resource, start_ns, start_ns // 1_000_000_000 AS second, attributes['layerline.sampling.threshold'] AS threshold,
        CASE WHEN coalesce(account, 'thread') IN ('thread', 'task') AND thread_cpu_ns IS NOT NULL THEN 'measured'
             ELSE coalesce(account_reason, CASE WHEN account IS NULL THEN 'not sent by layerline run' ELSE 'unknown' END)
        END AS measured
    FROM span WHERE start_ns >= $from_ns AND start_ns < $to_ns
)
SELECT resource, min(start_ns) AS at_ns, measured AS account, max(threshold) AS threshold, count(*) AS spans
FROM one GROUP BY resource, second, measured;

CREATE OR REPLACE TEMP TABLE moment AS SELECT DISTINCT resource, at_ns FROM sent;

CREATE OR REPLACE TEMP TABLE called_at AS
SELECT resource, local_address(any_value(attributes)) AS address
FROM span WHERE start_ns >= $from_ns AND start_ns < $to_ns AND kind = 2
GROUP BY resource;
