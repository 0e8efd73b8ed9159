-- What the first request of a process would have taken of its own, had it not been the first.
--
-- In:  visit, entry (path.sql, pieces.sql), request, part.
-- Out: asked, for usual.sql and usual_members.sql; then cold_usual.sql makes cold_usual of them: per visit that was the
-- first of its process, its operation's usual own time.
CREATE OR REPLACE TEMP TABLE asked AS
SELECT
    row_number() OVER () AS request_no, visit.request_no AS of_request, visit.visit_no, entry.trace_id, entry.span_id,
    coalesce(entry.service, '') AS service, entry.name AS operation, entry.start_ns
FROM visit JOIN entry ON entry.span_no = visit.visit_no
WHERE visit.is_first;
