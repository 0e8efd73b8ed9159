-- The usual of requests: the mean ledger of those between the 10th and the 50th percentile of duration among the last
-- 500 (at least 20, at most an hour old) of the same service and operation that ended before each began.
--
-- In:  asked(request_no, trace_id, span_id, service, operation, start_ns).
-- Out: usual_member (the requests whose mean it is), usual(request_no, usual_ns, members).
CREATE OR REPLACE TEMP TABLE usual_member AS
WITH
operations AS (
    SELECT service, operation, min(start_ns) AS first_ns, max(start_ns) AS last_ns FROM asked GROUP BY ALL
),
-- No more of each operation than the last 500 before the first that is asked, and all since.
recent AS (
    SELECT request.trace_id, request.span_id, request.service, request.operation, request.start_ns, request.end_ns
    FROM request JOIN operations USING (service, operation)
    WHERE request.end_ns <= operations.last_ns AND request.start_ns > operations.first_ns - 2 * 3_600_000_000_000
      AND request.end_ns > operations.first_ns - 3_600_000_000_000
    QUALIFY request.end_ns > operations.first_ns
         OR row_number() OVER (
                PARTITION BY request.service, request.operation, request.end_ns > operations.first_ns
                ORDER BY request.end_ns DESC) <= 500
),
last_500 AS (
    SELECT asked.request_no, recent.*
    FROM asked JOIN recent USING (service, operation)
    WHERE recent.end_ns <= asked.start_ns AND recent.end_ns > asked.start_ns - 3_600_000_000_000
    QUALIFY row_number() OVER (PARTITION BY asked.request_no ORDER BY recent.end_ns DESC, recent.span_id) <= 500
),
ranked AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY request_no ORDER BY end_ns - start_ns, span_id) AS place,
        count(*)     OVER (PARTITION BY request_no)                                     AS together
    FROM last_500
)
SELECT request_no, trace_id, span_id, start_ns, end_ns - start_ns AS duration_ns
FROM ranked
WHERE together >= 20 AND place > 0.1 * together AND place <= ceil(0.5 * together);

CREATE OR REPLACE TEMP TABLE usual AS
SELECT request_no, round(avg(duration_ns))::BIGINT AS usual_ns, count(*) AS members
FROM usual_member GROUP BY request_no;
