-- The requests of one operation that made such calls in [$from_ns, $to_ns), in order of start, and whether any of these was
-- late ($sign is 'late_calls') or failed ('failed_calls').
-- In: judged_call (calls_steps.sql).
SELECT request_ns, request_end_ns, bool_or(CASE WHEN $sign = 'late_calls' THEN late ELSE failed END) AS hit
FROM judged_call
WHERE caller = $service AND request_operation = $operation
  AND callee_type = $callee_type AND callee = $callee AND operation = $call
  AND request_ns >= $from_ns AND request_ns < $to_ns
GROUP BY trace_id, span_id, request_ns, request_end_ns
ORDER BY request_ns, span_id;
