-- Everybody on the machine where they are, as far as is known now (whereabouts.sql).
--
-- In:  resource, series.
-- Out: the same, with `host` (and the `entity_id` of host series) in the machine's one word, and container series whose
--      sender named only pod and container tied to the container's id.
-- Run whenever somebody is heard of who does not carry the machine's boot id: what is known of a machine may come after
-- what is known of its containers.
UPDATE resource SET host = whereabouts.host FROM whereabouts
WHERE whereabouts.resource = resource.resource AND whereabouts.host IS DISTINCT FROM resource.host;

UPDATE series SET host = resource.host,
                  entity_id = CASE WHEN entity_type = 'host' THEN resource.host ELSE entity_id END
FROM resource
WHERE resource.resource = series.resource
  AND (resource.host IS DISTINCT FROM series.host OR (entity_type = 'host' AND entity_id IS DISTINCT FROM resource.host));

-- The Collector's kubeletstats receiver tells pod and container by name unless it is asked for the container's id.
UPDATE series SET entity_id = known.container_id
FROM resource, (
    SELECT attributes['k8s.pod.uid'] AS pod, attributes['k8s.container.name'] AS name, any_value(container_id) AS container_id
    FROM resource WHERE container_id IS NOT NULL AND attributes['k8s.container.name'] IS NOT NULL
    GROUP BY ALL HAVING count(DISTINCT container_id) = 1
) AS known
WHERE series.entity_type = 'container' AND series.entity_id IS NULL AND resource.resource = series.resource
  AND resource.attributes['k8s.pod.uid'] = known.pod AND resource.attributes['k8s.container.name'] = known.name;
