-- The calls that began in [$from_ns, $to_ns), each with the request that it was made for: the innermost one of its caller
-- that was ongoing then. A call that ended after its request did not hold it up.
-- In: $around_ns (how long before its calls a request may have begun). Into: seen_call (late_calls.py).
INSERT INTO seen_call BY NAME
SELECT
    call.caller, call.callee_type, call.callee, call.operation, call.start_ns, call.duration_ns, call.gap_ns,
    -- What the callee answered well, and in time, did not fail at it: a 404 is an answer.
    failed(call.status) AND (call.gap_ns IS NULL OR call.gap_ns < 0 OR failed(call.answer_status)) AS failed,
    request.trace_id, request.span_id, request.operation AS request_operation, request.start_ns AS request_ns,
    request.end_ns AS request_end_ns
FROM calls_in($from_ns, $to_ns) AS call
LEFT JOIN request
    ON request.trace_id = call.trace_id AND request.service = call.caller
    AND request.start_ns <= call.start_ns AND request.end_ns >= call.start_ns + call.duration_ns
    AND request.start_ns >= $from_ns - $around_ns AND request.start_ns < $to_ns
QUALIFY row_number() OVER (
    PARTITION BY call.trace_id, call.span_id, call.start_ns, call.caller ORDER BY request.start_ns DESC, request.span_id
) = 1;
