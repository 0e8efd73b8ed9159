-- The keys that tags can be asked by, as attributes; of Docker labels, their own names.
-- Out: key, containers (that carry it).
WITH carried AS (
    SELECT resource, container_id,
           unnest(flatten([map_keys(coalesce(own, MAP {})), map_keys(coalesce(of_container, MAP {})),
                           map_keys(coalesce(of_host, MAP {}))])) AS attribute
    FROM tagged(0, 9_223_372_036_854_775_807)
)
SELECT CASE WHEN starts_with(attribute, 'container.label.') THEN attribute[17:] ELSE attribute END AS key,
       count(DISTINCT container_id) AS containers
FROM carried
GROUP BY key
ORDER BY containers DESC, key;
