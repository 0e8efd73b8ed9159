-- Which neighbours and which places may be behind time that nothing measured. They are named, and charged nothing.

-- Per service and place: its own time that no cause explains, above usual.
-- makes: open_time
-- reads: wanted_usual, usual, usual_member
CREATE OR REPLACE TEMP TABLE open_time AS
WITH
now AS (
    SELECT stay.service, container_id, host, sum(own_ns) AS own_ns, sum(open_ns) AS open_ns,
           sum(coalesce(ready_ns, stay.open_ns)) AS ready_ns
    FROM wanted_usual JOIN stay USING (trace_id, span_id, start_ns)
    GROUP BY ALL
),
means AS (
    SELECT usual_member.request_no, stay.service, sum(open_ns) / any_value(usual.members) AS open_ns
    FROM usual_member
    JOIN usual ON usual.request_no = usual_member.request_no
    JOIN stay ON stay.trace_id = usual_member.trace_id AND stay.span_id = usual_member.span_id
        AND stay.start_ns = usual_member.start_ns
    GROUP BY ALL
),
usually AS (SELECT service, sum(open_ns) AS open_ns FROM means GROUP BY ALL)
SELECT
    now.service, container_id, host, own_ns::BIGINT AS own_ns,
    -- Where several containers share one usual, it is divided as their open time was.
    greatest(
        0,
        now.open_ns * (1 - coalesce(usually.open_ns / nullif(sum(now.open_ns) OVER (PARTITION BY now.service), 0), 0))
    )::BIGINT
        AS excess_ns,
    -- How much of it may have been waited for a CPU, as far as is known.
    least(excess_ns, ready_ns)::BIGINT AS ready_ns
FROM now LEFT JOIN usually ON usually.service = now.service;

-- The series of whom may be suspected, on the machines of those places.
-- makes: suspect_series
-- reads: open_time
CREATE OR REPLACE TEMP TABLE suspect_series AS
SELECT series, signal
FROM series
SEMI JOIN (SELECT host FROM open_time WHERE excess_ns > 0) AS hosts USING (host)
WHERE kind <> 'gauge'
  AND signal IN ('container.cpu.time', 'container.disk.io', 'system.process.cpu.time', 'system.cpu.time');

-- makes: rate
-- reads: suspect_series
-- only with: suspect_series
CREATE OR REPLACE TEMP TABLE rate AS
SELECT line, from_ns, to_ns, rise / (to_ns - from_ns) AS rate
FROM rises_of((SELECT list(series) FROM suspect_series), $since_ns, $until_ns);

-- The rates during the requests. Two requests at the same time are one stretch of the machine's life: the overlap is a weight.
-- makes: rate_during
-- reads: rate, wanted_usual
-- only with: rate
CREATE OR REPLACE TEMP TABLE rate_during AS
SELECT line, sum(rate * shared_ns) / sum(shared_ns) AS rate
FROM (
    SELECT line, rate, overlap_ns(from_ns, to_ns, wanted_usual.start_ns, wanted_usual.end_ns) AS shared_ns
    FROM rate JOIN wanted_usual ON from_ns < wanted_usual.end_ns AND to_ns > wanted_usual.start_ns
)
GROUP BY line;

-- Per machine: how much of its fullest CPU was in use meanwhile. Where only the sum of all CPUs is reported, one may have
-- done it all.
-- makes: fullest_cpu
-- reads: rate_during
-- only with: rate_during
CREATE OR REPLACE TEMP TABLE fullest_cpu AS
WITH used AS (
    SELECT series.host, series.resource, series.attributes['cpu.logical_number'] AS cpu, sum(rate) AS cpus
    FROM rate_during JOIN series ON series.series = line
    WHERE signal = 'system.cpu.time' AND coalesce(series.attributes['cpu.mode'], '') NOT IN ('idle', 'iowait')
    GROUP BY ALL
)
SELECT host, max(least(cpus, 1)) AS used_ratio FROM used GROUP BY host;

-- Per entity and signal: its rate during the requests, and its usual one before them. Of a container with others inside of it,
-- what those did not do.
-- makes: beside
-- reads: rate, rate_during, wanted_usual, usual_member
-- only with: rate_during
CREATE OR REPLACE TEMP TABLE beside AS
WITH
-- What is usual of others is what they did during the requests that make the usual: what was not there then did nothing.
member AS (
    SELECT DISTINCT usual_member.start_ns, usual_member.start_ns + duration_ns AS end_ns
    FROM usual_member
    WHERE usual_member.start_ns >= $since_ns
),
earlier AS (
    SELECT line, sum(rate * (least(to_ns, end_ns) - greatest(from_ns, start_ns)))
                   / (SELECT sum(end_ns - start_ns) FROM member) AS rate
    FROM rate JOIN member ON from_ns < end_ns AND to_ns > start_ns
    GROUP BY line
    UNION ALL
    -- Without a usual, the middle one of the intervals before: a burst, or another slow request, does not make it.
    SELECT line, median(rate) FROM rate
    WHERE to_ns <= (SELECT min(start_ns) FROM wanted_usual) AND NOT EXISTS (FROM member)
    GROUP BY line
),
of_entity AS (
    SELECT
        CASE WHEN entity_type = 'container' THEN 'container' ELSE 'process' END AS entity_type,
        CASE WHEN entity_type = 'container' THEN entity_id
             -- The processes of a program together: of eight workers each rises by an eighth.
             ELSE attributes['process.executable.name'] END AS entity_id,
        series.host, CASE WHEN signal = 'container.disk.io' THEN signal ELSE 'container.cpu.time' END AS signal,
        sum(rate_during.rate) AS rate, sum(coalesce(earlier.rate, 0)) AS usual_rate
    FROM rate_during
    JOIN series ON series.series = rate_during.line
    LEFT JOIN earlier ON earlier.line = rate_during.line
    WHERE signal <> 'system.cpu.time'
    GROUP BY ALL
    HAVING entity_id IS NOT NULL
),
of_inner AS (
    SELECT outer_id, host, signal, sum(rate) AS rate, sum(usual_rate) AS usual_rate
    FROM of_entity JOIN nested ON nested.container_id = of_entity.entity_id
    GROUP BY ALL
)
SELECT of_entity.* REPLACE (
    of_entity.rate - coalesce(of_inner.rate, 0) AS rate,
    greatest(0, of_entity.usual_rate - coalesce(of_inner.usual_rate, 0)) AS usual_rate
)
FROM of_entity
LEFT JOIN of_inner ON outer_id = entity_id AND of_inner.host = of_entity.host AND of_inner.signal = of_entity.signal;
