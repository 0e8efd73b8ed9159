-- Who may be behind time that nobody measured. Company, never milliseconds: what rose beside a slow request is named, and
-- charged nothing.
--
-- In:  asked, usual, usual_member (requests.py); $numbers of the requests, $since_ns and $until_ns around them.
-- Out: open_time (per service and place: its own time that no cause explains, above usual),
--      beside (per entity and signal: its rate during the requests, and its usual one before them),
--      fullest (per host: how much of its fullest CPU was in use meanwhile).
CREATE OR REPLACE TEMP TABLE doubtful AS
SELECT asked.request_no, asked.trace_id, asked.span_id, asked.start_ns, request.end_ns
FROM asked
SEMI JOIN (SELECT unnest($numbers::BIGINT[]) AS request_no) AS chosen ON chosen.request_no = asked.request_no
JOIN request ON request.trace_id = asked.trace_id AND request.span_id = asked.span_id;

CREATE OR REPLACE TEMP TABLE open_time AS
WITH
now AS (
    SELECT service, container_id, host, sum(own_ns) AS own_ns, sum(open_ns) AS open_ns
    FROM doubtful JOIN stay USING (trace_id, span_id, start_ns)
    GROUP BY ALL
),
means AS (
    SELECT usual_member.request_no, stay.service, sum(open_ns) / any_value(usual.members) AS open_ns
    FROM usual_member
    SEMI JOIN doubtful ON doubtful.request_no = usual_member.request_no
    JOIN usual ON usual.request_no = usual_member.request_no
    JOIN stay ON stay.trace_id = usual_member.trace_id AND stay.span_id = usual_member.span_id
        AND stay.start_ns = usual_member.start_ns
    GROUP BY ALL
),
usually AS (SELECT service, sum(open_ns) AS open_ns FROM means GROUP BY ALL)
SELECT
    now.service, container_id, host, own_ns::BIGINT AS own_ns,
    -- Where several containers share one usual, it is divided as their open time was.
    greatest(0, now.open_ns * (1 - coalesce(usually.open_ns / nullif(sum(now.open_ns) OVER (PARTITION BY now.service), 0), 0)))::BIGINT
        AS excess_ns
FROM now LEFT JOIN usually ON usually.service = now.service;

CREATE OR REPLACE TEMP TABLE rates AS
WITH
hosts AS (SELECT DISTINCT host FROM open_time WHERE excess_ns > 0 AND host IS NOT NULL),
steps AS (
    SELECT
        series.series, series.kind, resource.attributes['layerline.boot_id'] IS NOT NULL AS ours, point.start_ns, time_ns, value,
        lag(time_ns) OVER each AS before_ns, lag(value) OVER each AS before_value
    FROM series
    SEMI JOIN hosts ON hosts.host = series.host
    LEFT JOIN resource ON resource.resource = series.resource
    JOIN point ON point.series = series.series
    WHERE kind IN ('cumulative', 'delta') AND time_ns BETWEEN $since_ns AND $until_ns
      AND signal IN ('container.cpu.time', 'container.disk.io', 'system.process.cpu.time', 'system.cpu.time')
    WINDOW each AS (PARTITION BY point.series ORDER BY time_ns)
),
rises AS (
    SELECT
        series, time_ns AS to_ns,
        rose_from(kind, ours, start_ns, before_ns, value, before_value)        AS from_ns,
        rose_by(kind, ours, start_ns, time_ns, before_ns, value, before_value) AS rise
    FROM steps
)
SELECT series, from_ns, to_ns, rise / (to_ns - from_ns) AS rate FROM rises
WHERE to_ns > from_ns AND to_ns - from_ns <= 120_000_000_000;

-- Two requests at the same time are one stretch of the machine's life: the overlap is a weight.
CREATE OR REPLACE TEMP TABLE during AS
SELECT series, sum(rate * shared_ns) / sum(shared_ns) AS rate
FROM (
    SELECT series, rate, least(to_ns, doubtful.end_ns) - greatest(from_ns, doubtful.start_ns) AS shared_ns
    FROM rates JOIN doubtful ON from_ns < doubtful.end_ns AND to_ns > doubtful.start_ns
)
GROUP BY series;

-- Where only the sum of all CPUs is told, one may have done it all.
CREATE OR REPLACE TEMP TABLE fullest AS
WITH used AS (
    SELECT series.host, series.resource, series.attributes['cpu.logical_number'] AS cpu, sum(rate) AS cpus
    FROM during JOIN series USING (series)
    WHERE signal = 'system.cpu.time' AND coalesce(series.attributes['cpu.mode'], '') NOT IN ('idle', 'iowait')
    GROUP BY ALL
)
SELECT host, max(least(cpus, 1)) AS used_ratio FROM used GROUP BY host;

CREATE OR REPLACE TEMP TABLE beside AS
WITH
-- What is usual of others is what they did during the requests that make the usual: who was not there then did nothing.
member AS (
    SELECT DISTINCT usual_member.start_ns, usual_member.start_ns + duration_ns AS end_ns
    FROM usual_member SEMI JOIN doubtful ON doubtful.request_no = usual_member.request_no
    WHERE usual_member.start_ns >= $since_ns
),
earlier AS (
    SELECT series, sum(rate * (least(to_ns, end_ns) - greatest(from_ns, start_ns)))
                   / (SELECT sum(end_ns - start_ns) FROM member) AS rate
    FROM rates JOIN member ON from_ns < end_ns AND to_ns > start_ns
    GROUP BY series
    UNION ALL
    -- Without a usual, the middle one of the intervals before: a burst, or another slow request, does not make it.
    SELECT series, median(rate) FROM rates
    WHERE to_ns <= (SELECT min(start_ns) FROM doubtful) AND NOT EXISTS (FROM member)
    GROUP BY series
)
SELECT
    CASE WHEN entity_type = 'container' THEN 'container' ELSE 'process' END AS entity_type,
    CASE WHEN entity_type = 'container' THEN entity_id
         ELSE attributes['process.executable.name'] || ' (pid ' || attributes['process.pid'] || ')' END AS entity_id,
    series.host, CASE WHEN signal = 'container.disk.io' THEN signal ELSE 'container.cpu.time' END AS signal,
    sum(during.rate) AS rate, sum(coalesce(earlier.rate, 0)) AS usual_rate
FROM during
JOIN series ON series.series = during.series
LEFT JOIN earlier ON earlier.series = during.series
WHERE signal <> 'system.cpu.time'
GROUP BY ALL
HAVING entity_id IS NOT NULL;
