-- The requests whose mean each usual is. In: usual, recent (usual.sql). Out: usual_member.
CREATE OR REPLACE TEMP TABLE usual_member AS
SELECT request_no, trace_id, span_id, start_ns, duration_ns
FROM usual
JOIN recent USING (service, operation)
WHERE place BETWEEN first_place AND last_place
QUALIFY row_number() OVER (PARTITION BY request_no ORDER BY duration_ns, span_id) BETWEEN from_rank AND to_rank;
