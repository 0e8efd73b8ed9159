-- The requests of one operation in [$from_ns, $to_ns), in order of start, and whether each showed the sign:
-- $sign is 'slow', 'tail' (with another $slow_ns), 'error' or 'cause'.
SELECT start_ns, end_ns,
       CASE $sign
           WHEN 'slow'  THEN end_ns - start_ns >= $slow_ns
           WHEN 'tail'  THEN end_ns - start_ns >= $slow_ns
           WHEN 'error' THEN status = 2
           ELSE coalesce((
               SELECT sum(lost_ns) FROM part
               WHERE part.trace_id = request.trace_id
                   AND part.span_id = request.span_id
                   AND part.start_ns = request.start_ns
                 AND cause = $cause AND part.service = $part_service AND address_of(entity_type, entity_id) = $address
           ), 0) >= $least_ns
       END AS hit
FROM request
WHERE service = $service AND operation = $operation AND start_ns >= $from_ns AND start_ns < $to_ns
  AND (weight > 0 OR $sign <> 'cause')  -- what has no ledger does not show a cause
ORDER BY start_ns, span_id;
