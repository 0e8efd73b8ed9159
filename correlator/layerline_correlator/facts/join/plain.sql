-- The plain case of the join, which most spans are: nothing to judge. judged.sql does the rest.

-- Senders on a machine, or in a container that our agent describes and that never ended: as `tie`, with a row for each
-- sighting that is plain.
-- makes: plain_tie
-- reads: sighting
CREATE OR REPLACE TEMP TABLE plain_tie AS
WITH
inside AS (
    SELECT DISTINCT container_id FROM resource SEMI JOIN sighting ON sighting.resource = resource.resource
    WHERE container_id IS NOT NULL
),
described_here AS (
    SELECT container_id, host FROM resource SEMI JOIN inside USING (container_id)
    WHERE service IS NULL AND host_by = 'layerline.boot_id' AND length(container_id) = 64
    GROUP BY container_id, host HAVING NOT bool_or(sandbox)
),
mortal AS (
    SELECT DISTINCT container_id
    FROM event
    JOIN resource ON resource.resource = event.resource
    SEMI JOIN inside USING (container_id)
    WHERE event.name = 'container.die'
)
SELECT
    sighting.resource, sighting.at_ns, sender.service, sender.instance, sender.cpus,
    sender.container_id, sender.host, sender.in_container,
    CASE WHEN in_container THEN 'container.id' END AS method,
    1.0::DOUBLE AS confidence, NULL::VARCHAR AS reason, sender.host_by AS host_method
FROM sighting
JOIN resource AS sender ON sender.resource = sighting.resource
LEFT JOIN described_here ON described_here.container_id = sender.container_id AND described_here.host = sender.host
WHERE sender.host_by = 'layerline.boot_id'
  AND (NOT in_container  -- our wrapper on the machine itself
       OR (described_here.host IS NOT NULL AND sender.container_id NOT IN (FROM mortal)));

-- The other sightings.
-- makes: doubtful_sighting
-- reads: sighting, plain_tie
CREATE OR REPLACE TEMP TABLE doubtful_sighting AS
FROM sighting ANTI JOIN plain_tie USING (resource, at_ns);
