-- The requests of one operation, as long as the incident lasted, and timed again without what one culprit cost them
-- beyond its usual. In: front, front_part, front_usual; $service, $operation, $cause, $entity_type, $entity_id, $from_ns, $to_ns.
-- Out: p50 and p95 as they were, p50 and p95 without it, and the p95 if it cost as much, or as little, as its evidence allows.
WITH
lost AS (
    SELECT trace_id, span_id, sum(coalesce(usual_ns, 0)) AS usual_ns,
           sum(lost_ns) AS lost_ns, sum(low_ns) AS low_ns, sum(high_ns) AS high_ns
    FROM front_part
    LEFT JOIN front_usual ON front_usual.service = front_part.service AND front_usual.operation = front_part.operation
        AND front_usual.cause = front_part.cause AND front_usual.part_service = front_part.part_service
        AND front_usual.address = address_of(entity_type, entity_id)
    WHERE front_part.cause = $cause AND entity_type = $entity_type
      AND (
          entity_id = $entity_id
          OR (entity_type = 'host' AND entity_id IN (SELECT host FROM host WHERE host_id = $entity_id))
      )
    GROUP BY ALL
),
again AS (
    SELECT duration_ns,
           duration_ns - not_below_zero(coalesce(lost_ns - usual_ns, 0))              AS without_ns,
           not_below_zero(duration_ns - not_below_zero(coalesce(high_ns - usual_ns, 0))) AS without_low_ns,
           duration_ns - not_below_zero(coalesce(low_ns - usual_ns, 0))               AS without_high_ns
    FROM front LEFT JOIN lost USING (trace_id, span_id)
    WHERE service = $service AND operation = $operation AND start_ns >= $from_ns AND start_ns < $to_ns
      AND fair AND weight > 0  -- a fair sample: what was drawn for being slow alone would make the others slow
)
SELECT round(quantile_cont(duration_ns, 0.5))::BIGINT, round(quantile_cont(duration_ns, 0.95))::BIGINT,
       round(quantile_cont(without_ns, 0.5))::BIGINT, round(quantile_cont(without_ns, 0.95))::BIGINT,
       round(quantile_cont(without_low_ns, 0.95))::BIGINT, round(quantile_cont(without_high_ns, 0.95))::BIGINT
FROM again;
