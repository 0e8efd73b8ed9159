-- The values that a key has, the most frequent first.
-- In:  $key, an attribute or label; $prefix, what they begin with; $limit.
SELECT value, count(DISTINCT container_id) AS containers
FROM (
    SELECT container_id, resource, unnest(tag_of(own, of_container, of_host, $key)) AS value
    FROM tagged(0, 9_223_372_036_854_775_807)
)
WHERE starts_with(value, $prefix)
GROUP BY value
ORDER BY containers DESC, value
LIMIT $limit;
