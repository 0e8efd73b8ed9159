-- What was seen in a window, and what was not.
--
-- $from_ns and $to_ns are half-open; $until_ns is the window's end, or now; $coarse_ns as in timeline.sql; $service says whose
-- requests (null: all). What is summed up of the window, and what lies beside it, are the views of summaries/cover.py.

-- How the spans of each service were tied, and why not.
-- makes: span_cover
-- reads: sent, tie
CREATE OR REPLACE TEMP TABLE span_cover AS
SELECT
    coalesce(tie.service, '') AS service, tie.container_id IS NOT NULL AS in_known_container,
    coalesce(NOT tie.in_container, FALSE) AS on_machine, tie.method, tie.confidence, tie.reason,
    tie.host, tie.host_method, tie.host IN (SELECT host FROM resource WHERE service IS NULL) AS on_known_host,
    sent.account, sent.threshold, resource.attributes['layerline.sampler'] AS sampler,
    resource.attributes['layerline.uninstrumented'] AS uninstrumented,
    resource.attributes['layerline.instrumentation.failed'] AS not_applied, sum(sent.spans)::BIGINT AS spans
FROM sent
JOIN tie ON tie.resource = sent.resource AND tie.at_ns = sent.at_ns
JOIN resource ON resource.resource = sent.resource
GROUP BY ALL;

-- Its requests, those of them whose caller's span was never received, and those whose parts did not add up.
-- makes: request_cover
-- reads: request_summed, request_beside, span_beside
CREATE OR REPLACE TEMP TABLE request_cover AS
WITH
orphan AS (  -- two spans of one sender may share an id and a start: the request is one
    SELECT DISTINCT request.trace_id, request.span_id, request.start_ns
    FROM request_beside AS request
    JOIN (SELECT trace_id, span_id, start_ns, resource, parent_span_id FROM span_beside) AS span
        ON span.trace_id = request.trace_id AND span.span_id = request.span_id
        AND span.start_ns = request.start_ns AND span.resource = request.resource
    WHERE root AND span.parent_span_id IS NOT NULL
),
by_sender AS (
    SELECT service, requests, orphans, left_out FROM request_summed
    UNION ALL
    SELECT request.service, count(*), count(orphan.trace_id), count(*) FILTER (planned = 0)
    FROM request_beside AS request
    LEFT JOIN orphan ON orphan.trace_id = request.trace_id AND orphan.span_id = request.span_id
        AND orphan.start_ns = request.start_ns
    GROUP BY request.service
),
-- Few are: they are looked for one by one.
unfinished AS (
    SELECT request.service, refused.why IS NOT NULL AS refused, failed.why IS NOT NULL AS unread
    FROM (
        SELECT trace_id, span_id, start_ns, service FROM request
        WHERE start_ns >= $from_ns AND start_ns < $to_ns
          AND trace_id IN (SELECT trace_id FROM refused UNION ALL SELECT trace_id FROM failed)
    ) AS request
    LEFT JOIN refused ON refused.trace_id = request.trace_id AND refused.span_id = request.span_id
        AND refused.start_ns = request.start_ns
    LEFT JOIN failed ON failed.trace_id = request.trace_id
),
marred AS (
    SELECT service, count(*) FILTER (refused) AS refused, count(*) FILTER (unread) AS unread
    FROM unfinished GROUP BY service
)
SELECT
    service, sum(requests)::BIGINT AS requests, sum(orphans)::BIGINT AS orphans,
    coalesce(any_value(refused), 0) AS refused, coalesce(any_value(unread), 0) AS unread,
    sum(left_out)::BIGINT AS left_out
FROM by_sender LEFT JOIN marred USING (service)
GROUP BY service;

-- The beat of the readings of each entity and layer: the steps of its steadiest series. A series goes on under a
-- description that changed. What stands open at the end of the window is a step too where the machine itself fell silent.
-- makes: beat
-- reads: point_summed, point_beside
CREATE OR REPLACE TEMP TABLE beat AS
WITH
line AS (
    SELECT
        series, series.entity_type, entity_id, host, signal, attributes,
        CASE WHEN signal LIKE '%network%' THEN 'network' ELSE series.entity_type END AS layer,
        coalesce(is_fine, FALSE) AS stall
    FROM series LEFT JOIN signal USING (signal)
    WHERE series.entity_type IN ('container', 'host') AND entity_id IS NOT NULL AND signal NOT LIKE 'layerline.%'
),
by_series AS (
    SELECT series, sum(points) AS points
    FROM (SELECT series, points FROM point_summed UNION ALL SELECT series, 1 FROM point_beside)
    GROUP BY series
),
counts AS (
    SELECT
        layer, entity_type, entity_id, host, signal, line.attributes, any_value(stall) AS stall,
        sum(points)::BIGINT AS points
    FROM by_series JOIN line ON line.series = by_series.series
    GROUP BY ALL
),
steadiest AS (
    SELECT *, sum(points) OVER each AS all_points FROM counts
    WINDOW each AS (PARTITION BY layer, entity_type, entity_id, host)
    QUALIFY row_number() OVER (each ORDER BY stall, points DESC, signal, counts.attributes::VARCHAR) = 1
),
chosen AS (
    SELECT line.series, steadiest.layer, steadiest.entity_type, steadiest.entity_id, steadiest.host, all_points
    FROM line
    JOIN
        steadiest
        ON steadiest.layer = line.layer AND steadiest.entity_id = line.entity_id AND steadiest.signal = line.signal
        AND steadiest.entity_type = line.entity_type AND steadiest.host IS NOT DISTINCT FROM line.host
        AND steadiest.attributes = line.attributes
),
-- A point by itself is a minute with one point.
stretches AS (
    SELECT DISTINCT
        layer, entity_type, entity_id, host, all_points, first_ns, last_ns, points, step_ns, long_steps
    FROM chosen
    JOIN (
        SELECT series, points, first_ns, last_ns, step_ns, long_steps FROM point_summed
        UNION ALL
        SELECT series, 1, time_ns, time_ns, NULL, NULL FROM point_beside
    ) AS point ON point.series = chosen.series
),
steps AS (
    SELECT *, first_ns - lag(last_ns) OVER each AS to_here_ns
    FROM stretches WINDOW each AS (PARTITION BY layer, entity_type, entity_id, host ORDER BY first_ns)
),
weighed AS (
    SELECT layer, entity_type, entity_id, host, step_ns, sum(steps) AS steps
    FROM (
        SELECT layer, entity_type, entity_id, host, to_here_ns AS step_ns, 1 AS steps FROM steps
        UNION ALL
        SELECT layer, entity_type, entity_id, host, step_ns, points - 1 FROM steps
    )
    WHERE step_ns > 0 GROUP BY ALL
),
ranked AS (
    SELECT *, sum(steps) OVER (each ORDER BY step_ns) AS up_to, sum(steps) OVER each AS all_steps
    FROM weighed WINDOW each AS (PARTITION BY layer, entity_type, entity_id, host)
),
medians AS (
    SELECT layer, entity_type, entity_id, host, min(step_ns) FILTER (up_to >= 0.5 * all_steps) AS median_ns,
           greatest(3 * median_ns, $coarse_ns) AS long_ns
    FROM ranked GROUP BY ALL
),
ends AS (
    SELECT
        steps.layer, steps.entity_type, steps.entity_id, steps.host, any_value(all_points) AS points,
        max(last_ns) AS last_ns, any_value(median_ns) AS median_ns,
        greatest(max(to_here_ns), max(list_max(long_steps)), max(step_ns)) AS longest_ns,
        -- Where a whole minute was slower than usual, all of its steps are.
        sum(CASE WHEN to_here_ns > long_ns THEN 1 ELSE 0 END
            + CASE WHEN step_ns > long_ns THEN steps.points - 1
                   ELSE coalesce(len(list_filter(long_steps, lambda step: step > long_ns)), 0) END)::BIGINT
            AS gaps
    FROM steps
    LEFT JOIN medians
        ON medians.layer = steps.layer AND medians.entity_type = steps.entity_type
        AND medians.entity_id = steps.entity_id AND medians.host IS NOT DISTINCT FROM steps.host
    GROUP BY ALL
)
SELECT
    layer, entity_type, entity_id, host, points, last_ns, median_ns,
    CASE WHEN silent THEN greatest(longest_ns, $until_ns - last_ns) ELSE longest_ns END AS longest_ns,
    gaps + CASE WHEN silent THEN 1 ELSE 0 END AS gaps
FROM (SELECT *, coalesce(entity_type = 'host' AND $until_ns - last_ns > 3 * median_ns, FALSE) AS silent FROM ends);

-- Where (in which service, on which machine) which cause could not be seen, in how many requests; with `service` null the
-- requests in which it was blind anywhere.
-- makes: blind_cover
-- reads: blind_summed, blind_beside, request_beside
CREATE OR REPLACE TEMP TABLE blind_cover AS
WITH
unseen AS (
    SELECT blind.*, request.weight
    FROM blind_beside AS blind JOIN request_beside AS request USING (trace_id, span_id, start_ns)
    WHERE $service IS NULL OR request.service = $service
),
-- A request counts for as many as its ledger stands for.
once AS (SELECT DISTINCT cause, trace_id, span_id, start_ns, weight FROM unseen),
by_cause AS (
    SELECT cause, service, facts, why, requests, foreign_readings, host, agent_reads
    FROM blind_summed WHERE $service IS NULL OR request_service = $service
    UNION ALL
    SELECT cause, service, facts, why, sum(weight), foreign_readings, host, agent_reads FROM unseen GROUP BY ALL
    UNION ALL
    SELECT cause, NULL, NULL, NULL, sum(weight), NULL, NULL, NULL FROM once GROUP BY cause
)
SELECT cause, service, facts, why, round(sum(requests))::BIGINT AS requests, foreign_readings, host, agent_reads
FROM by_cause GROUP BY ALL;

-- Containers that ended in the window, as their engine told, and how often each was read while it lived.
-- makes: life
-- reads: point_summed, point_beside
CREATE OR REPLACE TEMP TABLE life AS
WITH
turns AS (
    SELECT DISTINCT container_id, host, time_ns, event.name = 'container.start' AS begins,
           coalesce(resource.attributes['container.name'], '') AS name
    FROM event JOIN resource ON resource.resource = event.resource
    WHERE event.name IN ('container.start', 'container.die') AND container_id IS NOT NULL AND event.time_ns < $to_ns
),
ended AS (
    SELECT container_id, host, name, time_ns AS died_ns, begins,
           CASE WHEN lag(begins) OVER each THEN lag(time_ns) OVER each END AS started_ns
    FROM turns WINDOW each AS (PARTITION BY container_id, host ORDER BY time_ns)
)
SELECT ended.container_id, any_value(name) AS name, started_ns, died_ns, count(point.first_ns) AS readings
FROM ended
LEFT JOIN (
    SELECT entity_id, series.host, point.first_ns, point.last_ns
    FROM (
        SELECT series, first_ns, last_ns FROM point_summed
        UNION ALL SELECT series, time_ns, time_ns FROM point_beside
        UNION ALL SELECT series, first_ns, last_ns FROM point_minute WHERE minute <= minute_of($from_ns)
    ) AS point
    JOIN series ON series.series = point.series
    WHERE entity_type = 'container'
        AND entity_id IN (SELECT container_id FROM ended WHERE NOT begins AND died_ns >= $from_ns)
) AS point
    ON point.entity_id = ended.container_id AND point.host IS NOT DISTINCT FROM ended.host
    AND point.first_ns <= died_ns AND point.last_ns >= coalesce(started_ns, 0)
WHERE NOT begins AND died_ns >= $from_ns
GROUP BY ended.container_id, ended.host, started_ns, died_ns;

-- Readings that agents had made and that were lost before they arrived, as the agents tell (event
-- `layerline.agent.dropped`, which has the time of the last of them).
-- makes: dropped
CREATE OR REPLACE TEMP TABLE dropped AS
WITH
told AS (
    SELECT
        coalesce(resource.attributes['host.name'], host) AS host,
        try_cast(event.attributes['layerline.agent.dropped.points'] AS BIGINT) AS points,
        try_cast(event.attributes['layerline.agent.dropped.from_ns'] AS BIGINT) AS first_ns,
        try_cast(event.attributes['layerline.agent.dropped.to_ns'] AS BIGINT) AS last_ns,
        event.attributes['layerline.agent.dropped.reason'] AS reason
    FROM event JOIN resource ON resource.resource = event.resource
    WHERE event.name = 'layerline.agent.dropped'
)
SELECT host, points, first_ns, last_ns, reason FROM told
WHERE points > 0 AND first_ns > 0 AND first_ns <= last_ns AND first_ns < $to_ns AND last_ns >= $from_ns
ORDER BY points DESC LIMIT 100;

-- What agents say that nobody could see for a while, and why: the engine did not answer (`layerline.agent.engine_away`), the
-- clock was set (`layerline.agent.clock_stepped`), a container has ended and nobody knows when (`container.gone`).
-- makes: hidden
CREATE OR REPLACE TEMP TABLE hidden AS
WITH
told AS (
    SELECT
        event.name AS what, coalesce(resource.attributes['host.name'], host) AS host, container_id, event.time_ns,
        coalesce(resource.attributes['container.name'], '') AS name,
        try_cast(event.attributes['layerline.agent.from_ns'] AS BIGINT) AS first_ns,
        try_cast(event.attributes['layerline.agent.to_ns'] AS BIGINT) AS last_ns,
        try_cast(event.attributes['layerline.agent.clock_step_ns'] AS BIGINT) AS step_ns
    FROM event JOIN resource ON resource.resource = event.resource
    WHERE event.name IN ('layerline.agent.engine_away', 'layerline.agent.clock_stepped', 'container.gone')
)
FROM told WHERE 0 < first_ns AND first_ns <= last_ns AND first_ns < $to_ns AND last_ns >= $from_ns;

-- Agents that reported in the window: when last, how often, which version, and how far their machine's clock is from this
-- server's, by their newest figures in the last hour of it. An agent of before 0.2 says only what it dropped.
-- makes: agent_cover
-- reads: point_summed, point_beside
CREATE OR REPLACE TEMP TABLE agent_cover AS
WITH
own AS (
    SELECT series.series, series.host, signal, series.attributes['layerline.version'] AS version
    FROM series
    WHERE signal IN ('layerline.agent.dropped_points', 'layerline.agent.running', 'layerline.agent.clock_offset',
                     'layerline.agent.clock_uncertainty')
        AND series.host IS NOT NULL
),
spoke AS (
    SELECT own.host, max(last_ns) AS last_ns, max_by(version, last_ns) FILTER (version IS NOT NULL) AS version
    FROM (
        SELECT series, last_ns FROM point_summed
        UNION ALL SELECT series, time_ns FROM point_beside
    ) AS said
    JOIN own ON own.series = said.series
    GROUP BY own.host
),
newest AS (
    SELECT
        own.host,
        max_by(value, time_ns) FILTER (signal = 'layerline.agent.clock_offset')      AS ahead_ns,
        max_by(value, time_ns) FILTER (signal = 'layerline.agent.clock_uncertainty') AS uncertain_ns,
        count(DISTINCT time_ns) FILTER (signal = 'layerline.agent.dropped_points')   AS times,
        min(time_ns)                                                                AS first_ns
    FROM point JOIN own ON own.series = point.series
    WHERE time_ns >= greatest($from_ns, $until_ns - 3_600_000_000_000) AND time_ns < $to_ns
    GROUP BY own.host
)
SELECT
    spoke.host, coalesce(host.name, host.host_id, spoke.host) AS name, version, last_ns,
    CASE WHEN times > 1 THEN (last_ns - first_ns) // (times - 1) END AS every_ns,
    ahead_ns::BIGINT AS ahead_ns, uncertain_ns::BIGINT AS uncertain_ns
FROM spoke
LEFT JOIN newest ON newest.host = spoke.host
LEFT JOIN host ON host.host = spoke.host;

-- Senders of spans with our wrapper, by the version that they say.
-- makes: wrapper_cover
-- reads: sent
CREATE OR REPLACE TEMP TABLE wrapper_cover AS
SELECT resource.service AS name, resource.attributes['layerline.version'] AS version
FROM sent JOIN resource ON resource.resource = sent.resource
WHERE resource.attributes['layerline.version'] IS NOT NULL AND resource.service IS NOT NULL
    AND ($service IS NULL OR resource.service = $service)
GROUP BY ALL;

-- Metrics of one sender that fell apart into very many series, senders that come in very many guises, and the attribute
-- that made them so many; services with very many operations, whose names have ids in them.
-- makes: explosion
-- reads: request_summed, request_beside
CREATE OR REPLACE TEMP TABLE explosion AS
WITH
many AS (
    SELECT 'series' AS what, signal AS name, resource AS of, count(*) AS number FROM series
    GROUP BY signal, resource HAVING count(*) > $most_series
    UNION ALL
    SELECT 'resources', service, service, count(*) FROM resource WHERE service IS NOT NULL
    GROUP BY service HAVING count(*) > $most_series
    UNION ALL
    SELECT 'operations', service, NULL, count(DISTINCT operation)
    FROM (
        SELECT service, operation FROM request_summed
        UNION ALL SELECT service, operation FROM request_beside
    )
    GROUP BY service HAVING count(DISTINCT operation) > $most_series
    ORDER BY number DESC LIMIT 5
),
entries AS (
    SELECT what, name, of, unnest(map_entries(series.attributes)) AS entry
    FROM many JOIN series ON series.signal = many.name AND series.resource = many.of WHERE what = 'series'
    UNION ALL
    SELECT what, name, of, unnest(map_entries(resource.attributes))
    FROM many JOIN resource ON resource.service = many.of WHERE what = 'resources'
),
spread AS (
    SELECT what, name, of, entry."key" AS attribute, count(DISTINCT entry."value") AS distinct_values
    FROM entries
    GROUP BY ALL
)
SELECT many.what, many.name, any_value(number) AS number, arg_max(attribute, distinct_values) AS attribute,
       max(distinct_values) AS distinct_values
FROM many LEFT JOIN spread ON spread.what = many.what AND spread.name = many.name AND spread.of = many.of
GROUP BY many.what, many.name, many.of;
