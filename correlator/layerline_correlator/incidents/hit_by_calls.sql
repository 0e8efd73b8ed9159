-- Writes down which requests of an operation were hit by calls that were late, or failed, too often; of each trouble no more
-- than $most.
-- In: judged_call (calls_steps.sql), $sign and the edge as in seen_calls.sql, [$from_ns, $to_ns).
INSERT INTO hit_by_call
WITH hit AS (
    SELECT DISTINCT trace_id, span_id, request_ns AS start_ns
    FROM judged_call
    WHERE caller = $service AND request_operation = $operation
      AND callee_type = $callee_type AND callee = $callee AND operation = $call
      AND request_ns >= $from_ns AND request_ns < $to_ns
      AND CASE WHEN $sign = 'late_calls' THEN late ELSE failed END
),
known AS (
    SELECT count(*) AS requests
    FROM hit_by_call WHERE service = $service AND operation = $operation AND start_ns >= $from_ns
)
SELECT trace_id, span_id, start_ns, $service, $operation
FROM hit ANTI JOIN hit_by_call USING (trace_id, span_id, start_ns)
QUALIFY row_number() OVER (ORDER BY start_ns, span_id) <= $most - (SELECT requests FROM known);
