-- How often containers and machines were read in [$from_ns, $to_ns), by whom, and whether they are part of a pod. Of several
-- who read the same the one that does so most often counts.
-- In: $ids. Out: entity_id, every_ns, source, in_a_pod.
WITH each AS (
    SELECT
        entity_id, point.series, any_value(series.source) AS source,
        bool_or(resource.attributes['k8s.pod.name'] IS NOT NULL) AS in_a_pod,
        (max(time_ns) - min(time_ns)) / (count(*) - 1) AS every_ns
    FROM point
    JOIN series ON series.series = point.series
    LEFT JOIN resource ON resource.resource = series.resource
    WHERE signal IN ('container.cpu.time', 'system.cpu.time') AND entity_id IN (SELECT unnest($ids))
        AND time_ns >= $from_ns AND time_ns < $to_ns
    GROUP BY entity_id, point.series
    HAVING count(*) > 1
)
SELECT entity_id, min(every_ns)::BIGINT AS every_ns, coalesce(arg_min(source, every_ns), '') AS source,
       coalesce(bool_or(in_a_pod), FALSE) AS in_a_pod
FROM each
GROUP BY entity_id;
