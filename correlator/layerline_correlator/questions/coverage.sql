-- What was seen in a window, and what was not.
--
-- $from_ns and $to_ns are half-open; $until_ns is the window's end, or now; $service says whose requests (null: all).

-- How the spans of each service were tied, and why not.
-- makes: span_cover
-- reads: sent, tie
CREATE OR REPLACE TEMP TABLE span_cover AS
SELECT
    coalesce(tie.service, '') AS service, tie.container_id IS NOT NULL AS in_known_container,
    coalesce(NOT tie.in_container, FALSE) AS on_machine, tie.method, tie.confidence, tie.reason,
    tie.host, tie.host_method, tie.host IN (SELECT host FROM resource WHERE service IS NULL) AS on_known_host,
    sent.account, sent.threshold, resource.attributes['layerline.sampler'] AS sampler, sum(sent.spans)::BIGINT AS spans
FROM sent
JOIN tie ON tie.resource = sent.resource AND tie.at_ns = sent.at_ns
JOIN resource ON resource.resource = sent.resource
GROUP BY ALL;

-- Its requests, those of them whose caller's span was never received, and those whose parts did not add up.
-- makes: request_cover
CREATE OR REPLACE TEMP TABLE request_cover AS
WITH orphan AS (  -- two spans of one sender may share an id and a start: the request is one
    SELECT DISTINCT request.trace_id, request.span_id, request.start_ns
    FROM request
    JOIN span ON span.trace_id = request.trace_id AND span.span_id = request.span_id
        AND span.start_ns = request.start_ns AND span.resource = request.resource
    WHERE root AND span.parent_span_id IS NOT NULL AND request.start_ns >= $from_ns AND request.start_ns < $to_ns
)
SELECT
    request.service, count(*) AS requests, count(orphan.trace_id) AS orphans,
    count(*) FILTER (refused.why IS NOT NULL) AS refused, count(*) FILTER (failed.why IS NOT NULL) AS unread,
    count(*) FILTER (planned = 0) AS left_out
FROM request
LEFT JOIN orphan ON orphan.trace_id = request.trace_id AND orphan.span_id = request.span_id
    AND orphan.start_ns = request.start_ns
LEFT JOIN refused ON refused.trace_id = request.trace_id AND refused.span_id = request.span_id
    AND refused.start_ns = request.start_ns
LEFT JOIN failed ON failed.trace_id = request.trace_id
WHERE request.start_ns >= $from_ns AND request.start_ns < $to_ns
GROUP BY request.service;

-- The beat of the readings of each entity and layer: the steps of its steadiest series. A series goes on under a
-- description that changed. What stands open at the end of the window is a step too where the machine itself fell silent.
-- makes: beat
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
counts AS (
    SELECT layer, entity_type, entity_id, host, signal, line.attributes, any_value(stall) AS stall, count(*) AS points
    FROM point JOIN line ON line.series = point.series
    WHERE point.time_ns >= $from_ns AND point.time_ns < $to_ns
    GROUP BY ALL
),
steadiest AS (
    SELECT *, sum(points) OVER each AS all_points FROM counts
    WINDOW each AS (PARTITION BY layer, entity_type, entity_id, host)
    QUALIFY row_number() OVER (each ORDER BY stall, points DESC, signal, counts.attributes::VARCHAR) = 1
),
times AS (
    SELECT DISTINCT steadiest.layer, steadiest.entity_type, steadiest.entity_id, steadiest.host, all_points, time_ns
    FROM point
    JOIN line ON line.series = point.series
    JOIN
        steadiest
        ON steadiest.layer = line.layer AND steadiest.entity_id = line.entity_id AND steadiest.signal = line.signal
        AND steadiest.entity_type = line.entity_type AND steadiest.host IS NOT DISTINCT FROM line.host
        AND steadiest.attributes = line.attributes
    WHERE point.time_ns >= $from_ns AND point.time_ns < $to_ns
),
steps AS (
    SELECT *, time_ns - lag(time_ns) OVER (PARTITION BY layer, entity_type, entity_id, host ORDER BY time_ns) AS step_ns
    FROM times
),
ends AS (
    SELECT layer, entity_type, entity_id, host, any_value(all_points) AS points, max(time_ns) AS last_ns,
           median(step_ns)::BIGINT AS median_ns, max(step_ns) AS longest_ns,
           list(step_ns) FILTER (step_ns IS NOT NULL) AS steps
    FROM steps GROUP BY ALL
)
SELECT
    layer, entity_type, entity_id, host, points, last_ns, median_ns,
    CASE WHEN silent THEN greatest(longest_ns, $until_ns - last_ns) ELSE longest_ns END AS longest_ns,
    len(list_filter(steps, lambda step: step > 3 * median_ns)) + CASE WHEN silent THEN 1 ELSE 0 END AS gaps
FROM (SELECT *, coalesce(entity_type = 'host' AND $until_ns - last_ns > 3 * median_ns, FALSE) AS silent FROM ends);

-- Where (in which service, on which machine) which cause could not be seen, in how many requests; with `service` null the
-- requests in which it was blind anywhere.
-- makes: blind_cover
CREATE OR REPLACE TEMP TABLE blind_cover AS
WITH
unseen AS (
    SELECT blind.*, request.weight
    FROM blind JOIN request USING (trace_id, span_id, start_ns)
    WHERE start_ns >= $from_ns AND start_ns < $to_ns AND ($service IS NULL OR request.service = $service)
),
-- A request counts for as many as its ledger stands for.
once AS (SELECT DISTINCT cause, trace_id, span_id, start_ns, weight FROM unseen)
SELECT cause, service, facts, why, round(sum(weight))::BIGINT AS requests, foreign_readings, host, agent_reads
FROM unseen GROUP BY ALL
UNION ALL
SELECT cause, NULL, NULL, NULL, round(sum(weight))::BIGINT, NULL, NULL, NULL FROM once GROUP BY cause;

-- Containers that ended in the window, as their engine told, and how often each was read while it lived.
-- makes: life
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
SELECT ended.container_id, any_value(name) AS name, started_ns, died_ns, count(point.time_ns) AS readings
FROM ended
LEFT JOIN (
    SELECT entity_id, series.host, point.time_ns FROM point JOIN series ON series.series = point.series
    WHERE entity_type = 'container'
        AND entity_id IN (SELECT container_id FROM ended WHERE NOT begins AND died_ns >= $from_ns)
) AS point
    ON point.entity_id = ended.container_id AND point.host IS NOT DISTINCT FROM ended.host
    AND point.time_ns BETWEEN coalesce(started_ns, 0) AND died_ns
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

-- Metrics of one sender that fell apart into very many series, senders that come in very many guises, and the attribute
-- that made them so many; services with very many operations, whose names have ids in them.
-- makes: explosion
CREATE OR REPLACE TEMP TABLE explosion AS
WITH
many AS (
    SELECT 'series' AS what, signal AS name, resource AS of, count(*) AS number FROM series
    GROUP BY signal, resource HAVING count(*) > $most_series
    UNION ALL
    SELECT 'resources', service, service, count(*) FROM resource WHERE service IS NOT NULL
    GROUP BY service HAVING count(*) > $most_series
    UNION ALL
    SELECT 'operations', service, NULL, count(DISTINCT operation) FROM request
    WHERE start_ns >= $from_ns AND start_ns < $to_ns
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
