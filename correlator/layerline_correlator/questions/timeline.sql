-- The timeline: what each layer did at the same moment, on one grid of steps. Requests and readings come from one of two
-- files: timeline_rows.sql reads every row, timeline_minutes.sql what is summed up per minute.
--
-- $from_ns, $to_ns, $step_ns are the grid. What is asked for, null where it is not: $trace_id, $service, $operation,
-- $entity_type and $entity (an id or a name), $by_tag; $everything where nothing is. $since_ns and $until_ns: where readings
-- are looked for; $coarse_ns: the step to which points of the window were rolled up, at most: within it nobody can tell whether
-- anybody looked; $signals (patterns), $entities (how many at most). `picked` says who carries the tags (timeline.py).
-- Steps are numbered from 0; one that has no row was not covered.

-- makes: asked_entity
CREATE OR REPLACE TEMP TABLE asked_entity AS
SELECT 'container' AS entity_type, container_id AS entity_id FROM container
WHERE $entity_type = 'container'
  AND ($entity IN (name, container_id) OR (length($entity) >= 12 AND starts_with(container_id, $entity)))
UNION ALL
SELECT 'host', host FROM host WHERE $entity_type = 'host' AND $entity IN (host, host_id, name);

-- ---- entities: where the requests spent their time, what was asked for, and the machines below

-- makes: shown_entity
-- reads: request_weight, read_entity, asked_entity, picked
CREATE OR REPLACE TEMP TABLE shown_entity AS
WITH
near AS (
    FROM request_weight
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
),
below AS (
    FROM near
    UNION ALL
    SELECT 'host', container.host, 0 FROM near JOIN container ON entity_type = 'container' AND container_id = entity_id
    UNION ALL
    SELECT 'container', sandbox_id, 0
    FROM near JOIN pod_network ON entity_type = 'container' AND container_id = entity_id
),
named AS (
    SELECT entity_type, entity_id, sum(weight) AS weight FROM below WHERE entity_id IS NOT NULL GROUP BY ALL
)
-- The busy ones first where there are too many; who was not read in the window takes no place.
SELECT
    named.entity_type, named.entity_id, read_entity.entity_id IS NOT NULL AS was_read,
    row_number() OVER (
        PARTITION BY named.entity_type
        ORDER BY read_entity.entity_id IS NULL, weight DESC, ran DESC NULLS LAST, named.entity_id
    ) <= $entities AS shown
FROM named
LEFT JOIN read_entity ON read_entity.entity_type = named.entity_type AND read_entity.entity_id = named.entity_id;

-- ---- readings

-- The series that are asked for, of the entities shown.
-- makes: wanted_series
-- reads: shown_entity
CREATE OR REPLACE TEMP TABLE wanted_series AS
SELECT series.series, kind
FROM series
SEMI JOIN (FROM shown_entity WHERE shown) AS of_entity
    ON of_entity.entity_type = series.entity_type AND of_entity.entity_id = series.entity_id
WHERE EXISTS (FROM (SELECT unnest($signals::VARCHAR[]) AS pattern) WHERE signal GLOB pattern)
  -- What all tasks waited for is part of what some did.
  AND coalesce(series.attributes['pressure.kind'], 'some') = 'some';

-- What each line describes, one row per line. There are many stretches of time below, so they hold numbers only. `shown_as` is
-- the number of what is shown together: what devices and interfaces did adds up.
-- makes: shown_line
-- reads: wanted_series
-- only with: wanted_series
CREATE OR REPLACE TEMP TABLE shown_line AS
WITH
described AS (
    SELECT DISTINCT ON (line)
        line, entity_type, entity_id, signal, unit,
        map_from_entries(list_filter(map_entries(attributes), lambda entry:
            entry."key" NOT IN ('system.device', 'network.interface.name'))) AS shown_attributes
    FROM lines_of((SELECT list(series) FROM wanted_series))
)
SELECT
    described.*, coalesce(is_limit, FALSE) AS is_limit,
    dense_rank() OVER (
        ORDER BY described.entity_type, entity_id, described.signal, described.unit, shown_attributes::VARCHAR
    ) AS shown_as
FROM described LEFT JOIN signal ON signal.signal = described.signal;

-- makes: reading_step
-- reads: shown_reading, shown_line
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
        line, is_level, step,
        CASE WHEN is_level THEN sum(amount * shared_ns) / sum(shared_ns)
             ELSE sum(amount * (shared_ns / (to_ns - from_ns))) / sum(shared_ns) * 1e9 END AS value
    FROM shares
    GROUP BY line, is_level, step
)
-- Of several limits the tightest binds.
SELECT
    shown_as, is_level, step, CASE WHEN is_limit THEN min(value) ELSE sum(value) END AS value
FROM figures JOIN shown_line ON shown_line.line = figures.line
GROUP BY shown_as, is_level, step, is_limit;

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
