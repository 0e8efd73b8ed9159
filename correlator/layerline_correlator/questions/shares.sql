-- How often each tag and attribute has which value among picked requests and among others: at most about 2,000 of either,
-- chosen by their ids.
--
-- In: wanted_request (trace_id, span_id, start_ns, resource, container_id, host, operation, cause, status, picked).
-- Out: is_tag, key, value, affected (of the picked), others, of_affected, of_others.
WITH
chosen AS (
    FROM wanted_request
    QUALIFY row_number() OVER (PARTITION BY picked ORDER BY md5(trace_id || span_id)) <= 2000
),
totals AS (
    SELECT count(*) FILTER (picked) AS of_affected, count(*) FILTER (NOT picked) AS of_others FROM chosen
),
place AS (
    SELECT resource, any_value(container_id) AS container_id, any_value(host) AS host FROM chosen GROUP BY resource
),
of_resource AS (
    SELECT
        place.resource,
        map_concat(coalesce(host.attributes, MAP {}), coalesce(container.attributes, MAP {}), resource.attributes)
            AS tags
    FROM place
    JOIN resource ON resource.resource = place.resource
    LEFT JOIN container ON container.container_id = place.container_id
    LEFT JOIN host ON host.host = place.host
),
pairs AS (
    SELECT picked, FALSE AS is_tag, unnest(map_entries(span.attributes)) AS pair
    FROM chosen JOIN span USING (trace_id, span_id, start_ns, resource)
    WHERE span.start_ns >= $from_ns AND span.start_ns < $to_ns
    UNION ALL
    SELECT picked, TRUE, unnest(map_entries(tags)) FROM chosen JOIN of_resource USING (resource)
    UNION ALL
    SELECT picked, FALSE, {'key': 'operation', 'value': operation} FROM chosen
    UNION ALL
    SELECT picked, FALSE, {'key': 'cause', 'value': coalesce(cause, 'no single cause')} FROM chosen
    UNION ALL
    SELECT picked, FALSE, {'key': 'status', 'value': CASE WHEN failed(status) THEN 'error' ELSE 'ok' END} FROM chosen
)
SELECT
    is_tag, pair.key, pair.value, count(*) FILTER (picked) AS affected, count(*) FILTER (NOT picked) AS others,
    of_affected, of_others
FROM pairs, totals
WHERE length(pair.value) <= 200
GROUP BY ALL
HAVING count(*) FILTER (picked) > 0
ORDER BY ALL;
