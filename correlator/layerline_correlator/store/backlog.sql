-- What was received but never settled, oldest first (what is sealed is settled), without what was left out or could not be
-- worked out.
-- In: $settle_ns. Out: backlog(place, trace_id, from_ns, to_ns, spans).
CREATE OR REPLACE TEMP TABLE backlog AS
WITH
settled AS (
    SELECT trace_id FROM request WHERE (weight > 0 AND judged_ns >= end_ns + $settle_ns) OR planned = 0
    UNION
    SELECT trace_id FROM failed
),
waiting AS (
    SELECT trace_id, min(start_ns) AS from_ns, max(start_ns) AS to_ns, count(*) AS spans
    FROM hot_span ANTI JOIN settled USING (trace_id)
    GROUP BY trace_id
)
SELECT row_number() OVER (ORDER BY from_ns, trace_id) AS place, * FROM waiting ORDER BY place;
