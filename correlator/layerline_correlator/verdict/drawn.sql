-- Write the rows of requests that just arrived (triage.sql). In: $from_ns, $to_ns, $now_ns. A ledger replaces them.
DELETE FROM request
WHERE trace_id IN (SELECT trace_id FROM stored_trace WHERE weight = 0) AND start_ns BETWEEN $from_ns AND $to_ns;

INSERT INTO request BY NAME
SELECT
    rated_request.* EXCLUDE (name), name AS operation, end_ns - start_ns AS unexplained_ns, 0 AS skew_adjusted_ns,
    0.0 AS join_confidence,
    $now_ns::BIGINT AS judged_ns, 0.0 AS weight, planned, fair
FROM rated_request JOIN (SELECT trace_id, planned, fair FROM drawn_trace) AS drawn USING (trace_id);
