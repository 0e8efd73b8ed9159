-- The plain case of the join, which most spans are: nothing to judge. join.sql does the rest.
--
-- In:  moment (resource, at_ns: who sent a span that began then).
-- Out: tie, as join.sql describes it, with a row for each moment that is plain; the others stay in `moment`.
CREATE OR REPLACE TEMP TABLE tie AS
WITH
described AS (
    SELECT container_id, host FROM resource
    WHERE service IS NULL AND host_by = 'layerline.boot_id' AND length(container_id) = 64
    GROUP BY container_id, host HAVING NOT bool_or(sandbox)
),
mortal AS (
    SELECT DISTINCT container_id FROM event JOIN resource ON resource.resource = event.resource
    WHERE event.name = 'container.die' AND container_id IS NOT NULL
)
SELECT
    moment.resource, moment.at_ns, sender.service, sender.instance, sender.cpus,
    sender.container_id, sender.host, sender.in_container,
    CASE WHEN in_container THEN 'container.id' END AS method,
    1.0::DOUBLE AS confidence, NULL::VARCHAR AS reason, sender.host_by AS host_method
FROM moment
JOIN resource AS sender ON sender.resource = moment.resource
LEFT JOIN described ON described.container_id = sender.container_id AND described.host = sender.host
WHERE sender.host_by = 'layerline.boot_id'
  AND (NOT in_container  -- our wrapper on the machine itself
       OR (described.host IS NOT NULL AND sender.container_id NOT IN (FROM mortal)));

DELETE FROM moment WHERE (resource, at_ns) IN (SELECT (resource, at_ns) FROM tie);
