-- The requests of one operation, as long as the incident went on, and timed again without what one culprit cost them
-- beyond its usual. In: front, front_part, front_usual; $service, $operation, $cause, $entity_type, $entity_id, $from_ns, $to_ns.
WITH
lost AS (
    SELECT trace_id, span_id, greatest(0, sum(lost_ns - coalesce(usual_ns, 0))) AS excess_ns
    FROM front_part
    LEFT JOIN front_usual ON front_usual.service = front_part.service AND front_usual.operation = front_part.operation
        AND front_usual.cause = front_part.cause AND front_usual.part_service = front_part.part_service
        AND front_usual.address = address_of(entity_type, entity_id)
    WHERE front_part.cause = $cause AND entity_type = $entity_type
      AND (entity_id = $entity_id OR (entity_type = 'host' AND entity_id IN (SELECT host FROM host WHERE host_id = $entity_id)))
    GROUP BY ALL
)
SELECT round(quantile_cont(duration_ns, 0.5))::BIGINT, round(quantile_cont(duration_ns, 0.95))::BIGINT,
       round(quantile_cont(duration_ns - coalesce(excess_ns, 0), 0.5))::BIGINT,
       round(quantile_cont(duration_ns - coalesce(excess_ns, 0), 0.95))::BIGINT
FROM front LEFT JOIN lost USING (trace_id, span_id)
WHERE service = $service AND operation = $operation AND start_ns >= $from_ns AND start_ns < $to_ns;
