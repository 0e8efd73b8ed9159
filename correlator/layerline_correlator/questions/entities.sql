-- What lived in a window: processes, containers, hosts and services, each with its tags and what it runs on.
--
-- In:  $from_ns, $to_ns (half-open), and the views of that window (summaries/cover.py).
-- Out: type, id, name, tags (its own, and those of what it runs in), first_ns and last_ns (when data first came of it at
--      all, and last in the window), started_ns and ended_ns (as its machine's agent told; null where nobody told, or
--      where it still lives), host_id, host_name, runs_on_type, runs_on_id, runs_on_name.
WITH
spoke AS (
    SELECT resource, max(last_ns) AS last_ns
    FROM (SELECT resource, last_ns FROM span_summed UNION ALL SELECT resource, end_ns FROM span_beside)
    GROUP BY resource
),
measured AS (
    SELECT entity_type, entity_id, series.host, max(last_ns) AS last_ns
    FROM (
        SELECT series, max(last_ns) AS last_ns
        FROM (SELECT series, last_ns FROM point_summed UNION ALL SELECT series, time_ns FROM point_beside)
        GROUP BY series
    )
    JOIN series USING (series) GROUP BY ALL
),
-- Starts and ends of containers up to the window's end: the last of each.
told AS (
    SELECT
        resource.container_id,
        max(time_ns) FILTER (event.name = 'container.start') AS started_ns,
        max(time_ns) FILTER (event.name = 'container.die')   AS ended_ns,
        max(time_ns)                                         AS last_ns
    FROM event JOIN resource USING (resource)
    WHERE event.name IN ('container.start', 'container.die') AND event.time_ns < $to_ns AND container_id IS NOT NULL
    GROUP BY ALL
),
-- Where requests were worked out, it is known better where their senders are than these say themselves (join.sql).
tied AS (
    SELECT resource, arg_max(container_id, last_ns) AS container_id, arg_max(host, last_ns) AS host
    FROM (
        SELECT resource, container_id, host, last_ns FROM request_summed WHERE weight > 0
        UNION ALL SELECT resource, container_id, host, start_ns FROM request_beside WHERE weight > 0
    ) GROUP BY resource
),
working AS (
    SELECT
        resource.* REPLACE (coalesce(tied.container_id, resource.container_id) AS container_id,
                            coalesce(tied.host, resource.host) AS host),
        spoke.last_ns
    FROM spoke JOIN resource USING (resource) LEFT JOIN tied USING (resource)
),
in_containers AS (
    SELECT container_id, max(last_ns) AS last_ns
    FROM (
        SELECT container_id, last_ns FROM working WHERE container_id IS NOT NULL
        UNION ALL SELECT entity_id, last_ns FROM measured WHERE entity_type = 'container' AND entity_id IS NOT NULL
        UNION ALL SELECT container_id, last_ns FROM told WHERE last_ns >= $from_ns
    ) GROUP BY container_id
),
on_hosts AS (
    SELECT host, max(last_ns) AS last_ns
    FROM (
        SELECT host, last_ns FROM working WHERE host IS NOT NULL
        UNION ALL SELECT host, last_ns FROM measured WHERE host IS NOT NULL
        UNION ALL
        SELECT container.host, last_ns
        FROM in_containers
        JOIN container USING (container_id)
        WHERE container.host IS NOT NULL
    ) GROUP BY host
),
seen AS (
    SELECT instance, container_id, host, min(seen_ns) AS first_ns FROM resource GROUP BY ALL
),
hosts AS (
    SELECT
        on_hosts.host, coalesce(host.host_id, on_hosts.host) AS id,
        coalesce(host.name, host.host_id, on_hosts.host) AS name, coalesce(host.attributes, MAP {}) AS tags, last_ns,
        (SELECT min(first_ns) FROM seen WHERE seen.host = on_hosts.host) AS first_ns
    FROM on_hosts LEFT JOIN host USING (host)
),
containers AS (
    SELECT
        container_id AS id, coalesce(container.shown_name, left(container_id, 12)) AS name,
        map_concat(coalesce(hosts.tags, MAP {}), coalesce(container.attributes, MAP {})) AS tags,
        in_containers.last_ns,
        started_ns,
        CASE WHEN ended_ns >= coalesce(started_ns, ended_ns) THEN ended_ns END AS ended_ns,
        (SELECT min(first_ns) FROM seen WHERE seen.container_id = in_containers.container_id) AS first_ns,
        container.host, hosts.id AS host_id, hosts.name AS host_name
    FROM in_containers
    LEFT JOIN container USING (container_id)
    LEFT JOIN told USING (container_id)
    LEFT JOIN hosts ON hosts.host = container.host
),
processes AS (
    SELECT
        instance AS id, any_value(service) AS service,
        any_value(attributes['process.pid']) AS pid, arg_max(attributes, seen_ns) AS attributes,
        any_value(container_id) AS container_id, any_value(host) AS host, max(last_ns) AS last_ns
    FROM working WHERE service IS NOT NULL GROUP BY instance
),
entities AS (
    SELECT
        'process' AS type, processes.id, service || coalesce(' (process ' || pid || ')', '') AS name,
        map_concat(coalesce(containers.tags, hosts.tags, MAP {}), processes.attributes) AS tags,
        (SELECT min(first_ns) FROM seen WHERE instance = processes.id) AS first_ns, processes.last_ns,
        NULL::BIGINT AS started_ns, NULL::BIGINT AS ended_ns, hosts.id AS host_id, hosts.name AS host_name,
        CASE WHEN processes.container_id IS NOT NULL THEN 'container' WHEN hosts.id IS NOT NULL THEN 'host' END
            AS runs_on_type,
        coalesce(processes.container_id, hosts.id) AS runs_on_id, coalesce(containers.name, hosts.name) AS runs_on_name
    FROM processes
    LEFT JOIN containers ON containers.id = processes.container_id
    LEFT JOIN hosts ON hosts.host = processes.host
    UNION ALL BY NAME
    SELECT
        'container' AS type, id, name, tags, first_ns, last_ns, started_ns, ended_ns, host_id, host_name,
        CASE WHEN host_id IS NOT NULL THEN 'host' END AS runs_on_type, host_id AS runs_on_id, host_name AS runs_on_name
    FROM containers
    UNION ALL BY NAME
    SELECT 'host' AS type, id, name, tags, first_ns, last_ns FROM hosts
    UNION ALL BY NAME
    -- A service has the tags that all of its processes have.
    SELECT
        'service' AS type, service AS id, service AS name,
        map_from_entries(list_filter(map_entries(any_value(attributes)), lambda tag: list_bool_and(list_transform(
            list(attributes), lambda other: coalesce(other[tag.key] = tag.value, FALSE))))) AS tags,
        (SELECT min(resource.seen_ns) FROM resource WHERE resource.service = processes.service) AS first_ns,
        max(last_ns) AS last_ns
    FROM processes GROUP BY service
)
SELECT
    type, id, name, tags, first_ns, last_ns, started_ns, ended_ns, host_id, host_name,
    runs_on_type, runs_on_id, runs_on_name
FROM entities
