-- What changed in [$from_ns, $to_ns]: events; versions and images that served for the first time; limits that came or
-- changed; containers whose first readings came then. Out: change(at_ns, kind, container_id, service, what).
CREATE OR REPLACE TEMP TABLE change AS
WITH
reported AS (
    SELECT time_ns AS at_ns, event.name AS kind, resource.container_id, resource.service,
           coalesce(nullif(body, ''), event.name) AS what
    FROM event LEFT JOIN resource USING (resource)
    WHERE time_ns BETWEEN $from_ns AND $to_ns
),
served AS (
    SELECT request.service, request.container_id, start_ns,
           coalesce(sender.attributes['service.version'],
                    container.attributes['container.image.name'] || ':' || array_to_string(from_json(coalesce(
                        container.attributes['container.image.tags'], '[]'), '["VARCHAR"]'), ','),
                    container.attributes['container.image.id']) AS version
    FROM request
    JOIN resource AS sender ON sender.resource = request.resource
    LEFT JOIN container ON container.container_id = request.container_id
    WHERE start_ns BETWEEN $from_ns - 3_600_000_000_000 AND $to_ns
),
versions AS (
    SELECT service, version, min(start_ns) AS at_ns, arg_min(container_id, start_ns) AS container_id
    FROM served WHERE version IS NOT NULL GROUP BY service, version
),
new_versions AS (
    SELECT at_ns, 'version' AS kind, container_id, service,
           format('{} runs version {} instead of {}', service, version, earlier) AS what
    FROM (SELECT *, lag(version) OVER (PARTITION BY service ORDER BY at_ns) AS earlier FROM versions)
    WHERE earlier IS NOT NULL AND at_ns BETWEEN $from_ns AND $to_ns
),
levels AS (
    SELECT series.entity_id AS container_id, signal, series.attributes, time_ns, value,
           lag(value) OVER (PARTITION BY point.series ORDER BY time_ns) AS earlier
    FROM point JOIN series USING (series)
    WHERE signal IN (
        'container.cpu.limit', 'container.memory.limit', 'container.disk.limit', 'container.disk.operations.limit'
    )
      AND time_ns BETWEEN $from_ns - 130_000_000_000 AND $to_ns
),
-- When the readings of each container began, as far as they are looked at: a limit that comes later is a new one.
begun AS (
    SELECT series.entity_id AS container_id, min(time_ns) AS first_ns
    FROM point JOIN series USING (series)
    WHERE entity_type = 'container' AND time_ns BETWEEN $from_ns - 130_000_000_000 AND $to_ns
    GROUP BY ALL
),
limits AS (
    SELECT time_ns AS at_ns, 'limit' AS kind, levels.container_id, NULL AS service,
           format(
               '{} is {}{}', signal, value, CASE WHEN earlier IS NULL THEN ', was not set' ELSE ', was ' || earlier END
           ) AS what
    FROM levels JOIN begun USING (container_id)
    WHERE time_ns BETWEEN $from_ns AND $to_ns
      AND (earlier <> value OR (earlier IS NULL AND first_ns < time_ns - 10_000_000_000))
),
-- Not everybody's first readings at once: that is an agent that was started.
appeared AS (
    SELECT first_ns AS at_ns, 'neighbour' AS kind, container_id, NULL AS service, 'its first readings came' AS what
    FROM begun
    WHERE first_ns BETWEEN $from_ns AND $to_ns AND first_ns > (SELECT min(first_ns) FROM begun) + 10_000_000_000
)
FROM reported UNION ALL FROM new_versions UNION ALL FROM limits UNION ALL FROM appeared;
