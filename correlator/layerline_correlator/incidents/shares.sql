-- How often each attribute has which value among affected requests of one operation and among others of it: at most about
-- 2,000 of either, picked by their ids. In: concerned, asked_trouble, $service, $operation, $before_ns (0: others are those of the same time only).
-- Out: rows of (is_tag, key, value, affected, others, of_affected, of_others).
WITH
began AS (
    SELECT min(start_ns) AS start_ns FROM trouble SEMI JOIN asked_trouble USING (trouble)
    WHERE service = $service AND operation = $operation
),
picked AS (
    SELECT trace_id, span_id, start_ns, resource, affected
    FROM (
        SELECT
            trace_id,
            span_id,
            any_value(start_ns) AS start_ns,
            any_value(resource) AS resource,
            bool_or(affected) AS affected
        FROM concerned WHERE service = $service AND operation = $operation
        GROUP BY trace_id, span_id
        UNION ALL
        SELECT request.trace_id, request.span_id, request.start_ns, request.resource, FALSE
        FROM ordinary_request AS request, began
        WHERE request.service = $service AND request.operation = $operation
          AND request.start_ns < began.start_ns AND request.start_ns >= began.start_ns - $before_ns
    )
    QUALIFY row_number() OVER (PARTITION BY affected ORDER BY md5(trace_id || span_id)) <= 2000
),
totals AS (
    SELECT count(*) FILTER (affected) AS of_affected, count(*) FILTER (NOT affected) AS of_others FROM picked
),
place AS (
    SELECT request.resource, any_value(request.container_id) AS container_id, any_value(request.host) AS host
    FROM request SEMI JOIN picked ON picked.trace_id = request.trace_id AND picked.span_id = request.span_id
    GROUP BY request.resource
),
of_resource AS (
    SELECT place.resource,
           map_concat(coalesce(host.attributes, MAP {}), coalesce(container.attributes, MAP {}), resource.attributes)
               AS tags
    FROM place
    JOIN resource ON resource.resource = place.resource
    LEFT JOIN container ON container.container_id = place.container_id
    LEFT JOIN host ON host.host = place.host
),
pairs AS (
    SELECT picked.trace_id, picked.span_id, affected, FALSE AS is_tag, unnest(map_entries(span.attributes)) AS pair
    FROM picked JOIN span USING (trace_id, span_id, start_ns, resource)
    WHERE span.start_ns BETWEEN (SELECT min(start_ns) FROM picked) - 60_000_000_000
                            AND (SELECT max(start_ns) FROM picked) + 60_000_000_000
    UNION ALL
    SELECT trace_id, span_id, affected, TRUE AS is_tag, unnest(map_entries(tags)) AS pair
    FROM picked JOIN of_resource USING (resource)
)
SELECT is_tag, pair.key, pair.value, count(*) FILTER (affected) AS affected, count(*) FILTER (NOT affected) AS others,
       of_affected, of_others
FROM pairs, totals
WHERE length(pair.value) <= 200
GROUP BY ALL
HAVING count(*) FILTER (affected) >= 5
ORDER BY ALL;
