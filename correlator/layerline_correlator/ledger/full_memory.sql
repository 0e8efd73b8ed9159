-- Containers at their memory limit whose pages had to be read again, where no thread's account says how long that took.

-- For how long of each piece that was not measured its container was full to its memory limit while it faulted: major page faults,
-- or pages that it had had before. A full container that does not fault has what it needs.
-- makes: full_memory
-- reads: stretch, dark_piece, seen, near_series
-- only with: dark_piece, seen
-- only where: seen: piece_no IS NOT NULL AND signal IN ('container.memory.major_faults', 'container.memory.refaults')
CREATE OR REPLACE TEMP TABLE full_memory AS
WITH
faulting AS (
    SELECT
        stretch_no,
        max(estimate / stretch_ns * 1e9) FILTER (signal = 'container.memory.major_faults') AS faults_per_s,
        max(estimate / stretch_ns * 1e9) FILTER (signal = 'container.memory.refaults')     AS refaults_per_s
    FROM seen
    WHERE piece_no IS NOT NULL AND NOT peer
        AND signal IN ('container.memory.major_faults', 'container.memory.refaults')
    GROUP BY stretch_no
    HAVING faults_per_s >= many_faults_per_s() OR refaults_per_s >= many_refaults_per_s()
),
asked AS (
    SELECT stretch.* FROM stretch SEMI JOIN dark_piece USING (piece_no) SEMI JOIN faulting USING (stretch_no)
),
told AS (
    FROM levels_of(
        (SELECT list(series) FROM near_series
         WHERE signal IN ('container.memory.working_set', 'container.memory.usage', 'container.memory.limit',
                          'container.memory.limit_utilization')
           AND entity_id IN (SELECT container_id FROM asked)),
        $since_ns, $until_ns)
),
filled AS (
    SELECT
        stretch_no,
        coalesce(max(value) FILTER (signal = 'container.memory.working_set'),
                 max(value) FILTER (signal = 'container.memory.usage')) AS used_bytes,
        min(value) FILTER (signal = 'container.memory.limit' AND value > 0) AS limit_bytes,
        coalesce(used_bytes / limit_bytes, max(value) FILTER (signal = 'container.memory.limit_utilization')) AS ratio
    FROM asked
    JOIN told ON told.entity_id = asked.container_id
        AND told.from_ns < asked.to_ns AND coalesce(told.to_ns, told.from_ns + longest_interval_ns()) > asked.from_ns
    GROUP BY stretch_no
)
SELECT
    asked.piece_no, any_value(asked.container_id) AS container_id,
    sum(asked.to_ns - asked.from_ns)::BIGINT AS full_ns, max(ratio) AS ratio, any_value(limit_bytes) AS limit_bytes,
    max(greatest(coalesce(faults_per_s, 0), coalesce(refaults_per_s, 0))) AS faults_per_s
FROM asked JOIN faulting USING (stretch_no) JOIN filled USING (stretch_no)
WHERE ratio >= 0.9
GROUP BY asked.piece_no;
