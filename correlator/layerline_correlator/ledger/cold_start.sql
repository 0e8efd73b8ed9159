-- What the first request of a process would have taken of its own, had it not been the first.

-- The visits that were the first of their process, as requests whose usual is wanted (facts/usual.sql).
-- makes: wanted_usual
-- reads: visit, entry
-- only where: measured_visit: is_first
CREATE OR REPLACE TEMP TABLE wanted_usual AS
SELECT
    row_number() OVER () AS request_no, visit.request_no AS of_request, visit.visit_no, entry.trace_id, entry.span_id,
    coalesce(entry.service, '') AS service, entry.name AS operation, entry.start_ns
FROM visit JOIN entry ON entry.span_no = visit.visit_no
WHERE visit.is_first;

-- Per such visit, its operation's usual own time.
-- makes: cold_usual
-- reads: wanted_usual, usual, usual_member
-- only with: usual_member
CREATE OR REPLACE TEMP TABLE cold_usual AS
SELECT wanted_usual.of_request AS request_no, wanted_usual.visit_no,
       coalesce(sum(lost_ns) FILTER (cause LIKE 'app.%' OR cause LIKE 'container.%' OR cause LIKE 'host.%'), 0)
       / any_value(members)
           AS usual_own_ns
FROM wanted_usual
JOIN usual USING (request_no)
JOIN usual_member USING (request_no)
LEFT JOIN part ON part.trace_id = usual_member.trace_id AND part.span_id = usual_member.span_id
    AND part.start_ns = usual_member.start_ns AND part.service = wanted_usual.service
GROUP BY ALL;
