-- Excess by cause and entity over time. In: front, front_part (front.sql),
--     front_usual(service, operation, cause, part_service, address, usual_ns), $from_ns, $step_ns.
-- Out: rows of (step_no, cause, part_service, entity_type, entity_id, excess_ns); parts alike share their usual as their
--     time was. A ledger counts as often as requests it stands for. What an operation usually spends and did not spend counts for nothing here.
WITH
lost AS (
    SELECT
        service, operation, (start_ns - $from_ns) // $step_ns AS step_no, cause, part_service, entity_type, entity_id,
           address_of(entity_type, entity_id) AS address, sum(lost_ns * weight) AS lost_ns
    FROM front_part GROUP BY ALL
),
requests AS (
    SELECT service, operation, (start_ns - $from_ns) // $step_ns AS step_no, sum(weight) AS requests
    FROM front
    GROUP BY ALL
)
SELECT step_no, cause, part_service, entity_type, entity_id,
       sum(lost_ns - coalesce(usual_ns, 0) * requests * lost_ns / alike_ns)::BIGINT AS excess_ns
FROM (
    SELECT *, sum(lost_ns) OVER (PARTITION BY service, operation, step_no, cause, part_service, address) AS alike_ns
    FROM lost
    )
JOIN requests USING (service, operation, step_no)
LEFT JOIN front_usual USING (service, operation, cause, part_service, address)
GROUP BY ALL ORDER BY ALL;
