-- What was received but never settled, oldest first. In: $settle_ns. Out: backlog(place, trace_id, from_ns, to_ns).
CREATE OR REPLACE TEMP TABLE backlog AS
WITH
settled AS (
    SELECT trace_id FROM request WHERE judged_ns >= end_ns + $settle_ns
),
waiting AS (
    SELECT trace_id, min(start_ns) AS from_ns, max(start_ns) AS to_ns
    FROM span ANTI JOIN settled USING (trace_id)
    GROUP BY trace_id
)
SELECT row_number() OVER (ORDER BY from_ns, trace_id) AS place, * FROM waiting ORDER BY place;
