-- What was worked out before of the batch's requests makes room, in the transaction that writes it anew (keep.sql).
DELETE FROM request WHERE trace_id IN (SELECT trace_id FROM batch) AND start_ns BETWEEN $from_ns AND $to_ns;
DELETE FROM part    WHERE trace_id IN (SELECT trace_id FROM batch) AND start_ns BETWEEN $from_ns AND $to_ns;
DELETE FROM stay    WHERE trace_id IN (SELECT trace_id FROM batch) AND start_ns BETWEEN $from_ns AND $to_ns;
DELETE FROM refused WHERE trace_id IN (SELECT trace_id FROM batch) AND start_ns BETWEEN $from_ns AND $to_ns;
DELETE FROM failure WHERE trace_id IN (SELECT trace_id FROM batch) AND start_ns BETWEEN $from_ns AND $to_ns;
