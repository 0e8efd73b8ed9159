-- Everybody on the machine where they are, as far as is known now (whereabouts.sql).
--
-- In:  resource, series.
-- Out: the same, with `host` (and the `entity_id` of host series) in the machine's one word, and containers whose sender
--      named only pod and container, or a name, under their own id.
-- Run whenever somebody is heard of who does not carry the machine's boot id: what is known of a machine may come after
-- what is known of its containers.
UPDATE resource SET host = whereabouts.host FROM whereabouts
WHERE whereabouts.resource = resource.resource AND whereabouts.host IS DISTINCT FROM resource.host;

UPDATE series SET host = resource.host,
                  entity_id = CASE WHEN entity_type = 'host' THEN resource.host ELSE entity_id END
FROM resource
WHERE resource.resource = series.resource
  AND (
      resource.host IS DISTINCT FROM series.host OR (entity_type = 'host' AND entity_id IS DISTINCT FROM resource.host)
  );

-- The Collector's kubeletstats receiver names pod and container unless it is asked for the container's id, others may send a
-- name alone: what stands for such a container (handles.py) gives way to the one real id that others tell for the same pod and
-- container, or for the same name on the same machine (on any, where its sender names no machine: then it is on that one). Where
-- several had that name, as after a restart, none is chosen.
UPDATE resource SET container_id = coalesce(real.container_id, resource.stand_in),
                    host = CASE WHEN host_by IS NULL THEN coalesce(real.host, resource.host) ELSE resource.host END
FROM (
    WITH named AS (
        SELECT resource, container_id, host, host_by, stand_in, unnest(handles) AS handle
        FROM resource WHERE container_id IS NOT NULL AND NOT sandbox
    ),
    met AS (
        SELECT named.resource, other.container_id, other.host
        FROM named
        JOIN named AS other ON other.handle."key" = named.handle."key" AND other.handle."value" = named.handle."value"
        WHERE named.stand_in IS NOT NULL AND other.stand_in IS NULL
          AND (named.handle."key" = 'pod container'
               OR (named.handle."key" = 'name' AND (other.host = named.host OR named.host_by IS NULL)))
    )
    SELECT named.resource, any_value(met.container_id) AS container_id, any_value(met.host) AS host
    FROM (SELECT DISTINCT resource FROM named WHERE stand_in IS NOT NULL) AS named
    LEFT JOIN (FROM met QUALIFY count(DISTINCT container_id) OVER (PARTITION BY resource) = 1) AS met USING (resource)
    GROUP BY named.resource
) AS real
WHERE real.resource = resource.resource
    AND resource.container_id IS DISTINCT FROM coalesce(real.container_id, resource.stand_in);

UPDATE series SET entity_id = resource.container_id, host = resource.host
FROM resource
WHERE resource.resource = series.resource AND series.entity_type = 'container' AND resource.stand_in IS NOT NULL
  AND (resource.container_id IS DISTINCT FROM series.entity_id OR resource.host IS DISTINCT FROM series.host);
