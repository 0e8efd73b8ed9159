-- The timeline: what each layer did at the same moment, on one grid of steps.
--
-- $from_ns, $to_ns, $step_ns are the grid. What is asked for, null where it is not: $trace_id, $service, $operation,
-- $entity_type and $entity (an id or a name), $by_tag; $everything where nothing is. $since_ns and $until_ns: where readings
-- are looked for; $signals (patterns), $entities (how many at most). `picked` says who carries the tags (timeline.py).
-- Steps are numbered from 0; one that has no row was not covered.

-- makes: asked_entity
CREATE OR REPLACE TEMP TABLE asked_entity AS
SELECT 'container' AS entity_type, container_id AS entity_id FROM container
WHERE $entity_type = 'container'
  AND ($entity IN (name, container_id) OR (length($entity) >= 12 AND starts_with(container_id, $entity)))
UNION ALL
SELECT 'host', host FROM host WHERE $entity_type = 'host' AND $entity IN (host, host_id, name);

-- ---- requests: of an operation, of what was asked for, else all that came in from outside

-- makes: shown_request
-- reads: picked, asked_entity
CREATE OR REPLACE TEMP TABLE shown_request AS
SELECT trace_id, span_id, service, start_ns, end_ns, status, slow, unexplained_ns, container_id, host, weight
FROM request
WHERE start_ns < $to_ns AND end_ns >= $from_ns
  AND ($service IS NULL OR service = $service)
  AND ($operation IS NULL OR operation = $operation)
  AND (NOT $by_tag OR row(resource, container_id) IN (SELECT row(resource, container_id) FROM picked))
  AND ($entity_type IS NULL
       OR container_id IN (SELECT entity_id FROM asked_entity WHERE entity_type = 'container')
       OR host IN (SELECT entity_id FROM asked_entity WHERE entity_type = 'host'))
  AND (root OR NOT $everything);

-- makes: request_step
-- reads: shown_request
CREATE OR REPLACE TEMP TABLE request_step AS
SELECT
    (start_ns - $from_ns) // $step_ns AS step,
    count(*) AS requests, count(*) FILTER (failed(status)) AS errors, count(*) FILTER (slow) AS slow,
    quantile_cont(end_ns - start_ns, [0.5, 0.95, 0.99])::BIGINT[] AS latency
FROM shown_request
WHERE start_ns >= $from_ns AND start_ns < $to_ns
GROUP BY ALL;

-- ---- causes: each part spread evenly over its request's duration, in seconds lost per second; a ledger counts for
-- as many requests as it stands for

-- makes: cause_step
-- reads: shown_request
CREATE OR REPLACE TEMP TABLE cause_step AS
WITH
lost AS (
    SELECT
        cause, sum(lost_ns * weight) AS lost_ns,
        request.trace_id, request.span_id, request.start_ns, any_value(end_ns) AS end_ns
    FROM shown_request AS request JOIN part USING (trace_id, span_id, start_ns)
    GROUP BY ALL
    UNION ALL
    SELECT 'unexplained', unexplained_ns * weight, trace_id, span_id, start_ns, end_ns
    FROM shown_request WHERE weight > 0
),
spread AS (
    SELECT
        cause, lost_ns, start_ns, greatest(end_ns, start_ns + 1) AS end_ns,
        unnest(range((greatest(start_ns, $from_ns) - $from_ns) // $step_ns,
                     (least(greatest(end_ns, start_ns + 1), $to_ns) - 1 - $from_ns) // $step_ns + 1)) AS step
    FROM lost
)
SELECT
    cause, step,
    sum(lost_ns * ((least(end_ns, $from_ns + (step + 1) * $step_ns) - greatest(start_ns, $from_ns + step * $step_ns))
                   / (end_ns - start_ns))) / $step_ns AS lost
FROM spread
GROUP BY ALL;

-- ---- entities: where the requests spent their time, what was asked for, and the machines below

-- makes: shown_entity
-- reads: shown_request, asked_entity, picked
CREATE OR REPLACE TEMP TABLE shown_entity AS
WITH
mine AS (FROM shown_request WHERE $trace_id IS NULL OR trace_id = $trace_id),
stayed AS (SELECT stay.* FROM stay JOIN mine USING (trace_id, span_id, start_ns)),
near AS (
    SELECT 'container' AS entity_type, container_id AS entity_id, own_ns AS weight FROM stayed
    UNION ALL
    SELECT 'host', host, own_ns FROM stayed
    UNION ALL
    SELECT 'container', container_id, 0 FROM mine
    UNION ALL
    SELECT 'host', host, 0 FROM mine
    UNION ALL
    SELECT entity_type, entity_id, lost_ns FROM part JOIN mine USING (trace_id, span_id, start_ns)
    WHERE entity_type IN ('container', 'host')
    UNION ALL
    SELECT entity_type, entity_id, 9e18 FROM asked_entity
    UNION ALL
    SELECT 'container', container_id, 0 FROM container
    WHERE host IN (SELECT entity_id FROM asked_entity WHERE entity_type = 'host')
    UNION ALL
    SELECT 'container', container_id, 0 FROM picked
    UNION ALL
    SELECT 'host', host, 0 FROM picked WHERE container_id IS NULL
    UNION ALL
    SELECT DISTINCT entity_type, entity_id, 0 FROM series WHERE $everything
    UNION ALL
    SELECT DISTINCT 'service', service, 0 FROM mine
),
below AS (
    FROM near
    UNION ALL
    SELECT 'host', container.host, 0 FROM near JOIN container ON entity_type = 'container' AND container_id = entity_id
),
named AS (
    SELECT entity_type, entity_id, sum(weight) AS weight FROM below WHERE entity_id IS NOT NULL GROUP BY ALL
),
-- The busy ones first where there are too many; who was not read in the window takes no place.
busy AS (
    SELECT entity_type, entity_id, sum(rise) FILTER (signal = 'container.cpu.time') AS ran
    FROM (SELECT entity_type, entity_id, signal, max(value) - min(value) AS rise
          FROM series SEMI JOIN named USING (entity_type, entity_id) JOIN point USING (series)
          WHERE time_ns >= $from_ns AND time_ns < $to_ns
          GROUP BY entity_type, entity_id, signal, series)
    GROUP BY ALL
)
SELECT
    named.entity_type, named.entity_id, busy.entity_id IS NOT NULL AS was_read,
    row_number() OVER (
        PARTITION BY named.entity_type
        ORDER BY busy.entity_id IS NULL, weight DESC, ran DESC NULLS LAST, named.entity_id
    ) <= $entities AS shown
FROM named LEFT JOIN busy ON busy.entity_type = named.entity_type AND busy.entity_id = named.entity_id;

-- ---- readings

-- The series that are asked for, of the entities shown.
-- makes: shown_series
-- reads: shown_entity
CREATE OR REPLACE TEMP TABLE shown_series AS
SELECT series.series, kind
FROM series
SEMI JOIN (FROM shown_entity WHERE shown) AS of_entity
    ON of_entity.entity_type = series.entity_type AND of_entity.entity_id = series.entity_id
WHERE EXISTS (FROM (SELECT unnest($signals::VARCHAR[]) AS pattern) WHERE signal GLOB pattern)
  -- What all tasks waited for is part of what some did.
  AND coalesce(series.attributes['pressure.kind'], 'some') = 'some';

-- What each value says of a stretch of time: how much a counter grew since the last, what a gauge held until the next.
-- A stretch much longer than the usual ones of its line is one in which nobody looked: a gap.
-- makes: shown_reading
-- reads: shown_series
-- only with: shown_series
CREATE OR REPLACE TEMP TABLE shown_reading AS
WITH
stretches AS (
    SELECT
        line,
        signal,
        unit,
        FALSE AS is_level,
        entity_type,
        entity_id,
        attributes,
        is_part,
        from_ns,
        to_ns,
        rise AS amount
    FROM rises_of((SELECT list(series) FROM shown_series WHERE kind <> 'gauge'), $since_ns, $until_ns)
    UNION ALL
    SELECT line, signal, unit, TRUE, entity_type, entity_id, attributes, is_part, from_ns, to_ns, value
    FROM levels_of((SELECT list(series) FROM shown_series WHERE kind = 'gauge'), $since_ns, $until_ns)
),
steps AS (
    SELECT line, CASE WHEN count(*) > 1 THEN quantile_disc(to_ns - from_ns, 0.5) END AS usual_ns
    FROM stretches GROUP BY line
),
ended AS (
    SELECT
        stretches.* REPLACE (
            -- A level that nobody confirmed again held for one usual step.
            CASE WHEN is_level AND to_ns - from_ns > most_ns THEN from_ns + coalesce(usual_ns, 1) ELSE to_ns END
                AS to_ns
        ),
        most_ns
    FROM stretches
    JOIN (
        SELECT *, least(longest_interval_ns(), greatest(seconds_long(5), 3 * coalesce(usual_ns, 0))) AS most_ns
        FROM steps
    ) USING (line)
)
SELECT * EXCLUDE (most_ns) FROM ended
WHERE to_ns > from_ns AND to_ns - from_ns <= most_ns AND from_ns < $to_ns AND to_ns > $from_ns;

-- makes: reading_step
-- reads: shown_reading
-- only with: shown_reading
CREATE OR REPLACE TEMP TABLE reading_step AS
WITH
cut AS (
    SELECT *, unnest(range((greatest(from_ns, $from_ns) - $from_ns) // $step_ns,
                           (least(to_ns, $to_ns) - 1 - $from_ns) // $step_ns + 1)) AS step
    FROM shown_reading
),
shares AS (
    SELECT *, overlap_ns(from_ns, to_ns, $from_ns + step * $step_ns, $from_ns + (step + 1) * $step_ns) AS shared_ns
    FROM cut
),
figures AS (
    SELECT
        entity_type, entity_id, signal, unit, is_level, step, attributes,
        CASE WHEN is_level THEN sum(amount * shared_ns) / sum(shared_ns)
             ELSE sum(amount * (shared_ns / (to_ns - from_ns))) / sum(shared_ns) * 1e9 END AS value
    FROM shares
    GROUP BY entity_type, entity_id, signal, unit, is_level, step, attributes, CASE WHEN is_part THEN line END
)
-- What devices and interfaces did adds up; of several limits the tightest binds.
SELECT
    figures.entity_type, entity_id, figures.signal, figures.unit, is_level, step,
    map_from_entries(list_filter(map_entries(attributes), lambda entry:
        entry."key" NOT IN ('system.device', 'network.interface.name'))) AS shown_attributes,
    CASE WHEN coalesce(is_limit, FALSE) THEN min(value) ELSE sum(value) END AS value
FROM figures
LEFT JOIN signal ON signal.signal = figures.signal
GROUP BY figures.entity_type, entity_id, figures.signal, figures.unit, is_level, step, shown_attributes, is_limit;

-- ---- events: of the entities and services concerned, and those that concern everybody

-- makes: shown_event
-- reads: shown_entity
CREATE OR REPLACE TEMP TABLE shown_event AS
WITH happened AS (
    SELECT
        time_ns, event.name, body, event.attributes, container_id,
        coalesce(service, event.attributes['service.name']) AS service,
        -- Who has no attributes is nobody's process: it told of a change from outside.
        CASE WHEN cardinality(resource.attributes) > 0 THEN host END AS host
    FROM event JOIN resource USING (resource)
    WHERE time_ns >= $from_ns AND time_ns < $to_ns
),
whose AS (
    SELECT
        *,
        CASE WHEN container_id IS NOT NULL THEN 'container' WHEN service IS NOT NULL THEN 'service'
             WHEN host IS NOT NULL THEN 'host' END AS entity_type,
        coalesce(container_id, service, host) AS entity_id
    FROM happened
)
SELECT time_ns, name, body, attributes, entity_type, entity_id FROM whose
WHERE $everything
    OR entity_type IS NULL
    OR (entity_type, entity_id) IN (SELECT (entity_type, entity_id) FROM shown_entity)
   OR service IN (SELECT entity_id FROM shown_entity WHERE entity_type = 'service');
