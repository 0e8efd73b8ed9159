-- See cold.sql. In: asked, usual, usual_member (usual.sql, usual_members.sql). Out: cold_usual.
CREATE OR REPLACE TEMP TABLE cold_usual AS
SELECT asked.of_request AS request_no, asked.visit_no,
       coalesce(sum(lost_ns) FILTER (cause LIKE 'app.%' OR cause LIKE 'container.%' OR cause LIKE 'host.%'), 0) / any_value(members)
           AS usual_own_ns
FROM asked
JOIN usual USING (request_no)
JOIN usual_member USING (request_no)
LEFT JOIN part ON part.trace_id = usual_member.trace_id AND part.span_id = usual_member.span_id
    AND part.start_ns = usual_member.start_ns AND part.service = asked.service
GROUP BY ALL;
