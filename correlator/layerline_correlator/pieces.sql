-- From segments to pieces: what each span on the path did with its own time.
--
-- In:  node, entry, walk, segment (path.sql).
-- Out: piece (one row per request and span on its path), visit (one row per request and process it visited).
-- A piece's length is cpu + wait + off + dark. `dark` was not measured. Each cause takes from what is left.

-- The thread's account in time. What a stranger sent is put in bounds: nothing negative, nothing outside its span.
CREATE OR REPLACE TEMP TABLE slice AS
WITH
on_path AS (SELECT DISTINCT span_no FROM segment),
measured AS (
    SELECT
        node.span_no, node.start_ns, node.end_ns - node.start_ns AS length_ns,
        CASE WHEN len(slices) >= 4 THEN slices
             ELSE [0, node.end_ns - node.start_ns, thread_cpu_ns, coalesce(thread_runqueue_ns, 0)] END AS slices
    FROM node
    SEMI JOIN on_path ON on_path.span_no = node.span_no
    WHERE coalesce(account, 'thread') IN ('thread', 'task') AND thread_cpu_ns IS NOT NULL
),
numbers AS (
    SELECT span_no, start_ns, length_ns, slices, unnest(range(0, len(slices) // 4)) * 4 AS slot FROM measured
),
raw AS (
    SELECT
        span_no, slot, start_ns,
        least(greatest(slices[slot + 1], 0), length_ns)                                         AS offset_ns,
        least(greatest(slices[slot + 1], 0)::HUGEINT + greatest(slices[slot + 2], 0), length_ns)::BIGINT AS until_ns,
        greatest(slices[slot + 3], 0) AS cpu_ns,
        greatest(slices[slot + 4], 0) AS wait_ns
    FROM numbers
)
SELECT
    span_no, slot,
    start_ns + offset_ns AS from_ns,
    start_ns + until_ns  AS to_ns,
    least(cpu_ns, until_ns - offset_ns)                                                  AS cpu_ns,
    least(wait_ns, until_ns - offset_ns - least(cpu_ns, until_ns - offset_ns))           AS wait_ns
FROM raw
WHERE until_ns > offset_ns;

CREATE OR REPLACE TEMP MACRO shared(from_a, to_a, from_b, to_b) AS
    greatest(0, least(to_a, to_b) - greatest(from_a, from_b));

CREATE OR REPLACE TEMP TABLE piece AS
WITH
lengths AS (
    SELECT request_no, span_no, sum(to_ns - from_ns)::BIGINT AS length_ns, min(from_ns) AS from_ns, max(to_ns) AS to_ns
    FROM segment GROUP BY ALL
),
own AS (
    SELECT request_no, span_no, slot, any_value(slice.to_ns - slice.from_ns) AS slice_ns,
           any_value(cpu_ns) AS cpu_ns, any_value(wait_ns) AS wait_ns,
           sum(shared(segment.from_ns, segment.to_ns, slice.from_ns, slice.to_ns))::BIGINT AS own_ns
    FROM segment JOIN slice USING (span_no)
    WHERE segment.from_ns < slice.to_ns AND segment.to_ns > slice.from_ns
    GROUP BY ALL
),
-- Merged slices span the children between them: those ran on the same thread, in time that is not the span's own.
inside AS (
    SELECT walk.request_no, walk.caller_no AS span_no, slot,
           sum(shared(walk.from_ns, walk.to_ns, slice.from_ns, slice.to_ns))::BIGINT AS inside_ns
    FROM walk JOIN slice ON slice.span_no = walk.caller_no
    WHERE walk.same_thread AND walk.from_ns < slice.to_ns AND walk.to_ns > slice.from_ns
    GROUP BY ALL
),
shares AS (
    SELECT request_no, span_no, own_ns, cpu_ns, wait_ns,
           greatest(own_ns, slice_ns - coalesce(inside_ns, 0)) AS whole_ns
    FROM own LEFT JOIN inside USING (request_no, span_no, slot)
),
accounted AS (
    SELECT
        request_no, span_no,
        sum(own_ns)::BIGINT AS covered_ns,
        sum(CASE WHEN own_ns = whole_ns THEN cpu_ns  ELSE floor(cpu_ns  * (own_ns / whole_ns)) END)::BIGINT AS cpu_ns,
        sum(CASE WHEN own_ns = whole_ns THEN wait_ns ELSE floor(wait_ns * (own_ns / whole_ns)) END)::BIGINT AS wait_ns,
        sum(own_ns) / sum(whole_ns) AS share
    FROM shares GROUP BY ALL
),
-- A call is answered by a span that we know, or it is a dependency seen only from outside.
answered AS (
    SELECT DISTINCT parent_no AS span_no FROM node WHERE parent_kind = 3 AND (crosses OR kind = 3)
),
clipped AS (
    SELECT
        lengths.*,
        least(coalesce(covered_ns, 0), length_ns) AS covered_ns,
        least(coalesce(cpu_ns, 0), covered_ns, length_ns) AS cpu_ns,
        coalesce(wait_ns, 0) AS wait_ns,
        coalesce(share, 0) AS share
    FROM lengths LEFT JOIN accounted USING (request_no, span_no)
),
settled AS (
    SELECT *, least(coalesce(wait_ns, 0), covered_ns - coalesce(cpu_ns, 0)) AS w FROM clipped
)
SELECT
    row_number() OVER (ORDER BY settled.request_no, settled.span_no) AS piece_no,
    settled.request_no, settled.span_no, node.visit_no,
    node.service, node.container_id, node.host, node.instance, node.in_container, node.name, node.kind,
    node.account, node.account_reason,
    settled.from_ns, settled.to_ns, settled.length_ns, settled.covered_ns, settled.share,
    coalesce(settled.cpu_ns, 0)                               AS cpu_ns,
    settled.w                                                 AS wait_ns,
    settled.covered_ns - coalesce(settled.cpu_ns, 0) - settled.w AS off_ns,
    -- what no cause has taken yet
    coalesce(settled.cpu_ns, 0)                               AS cpu_left,
    settled.w                                                 AS wait_left,
    settled.covered_ns - coalesce(settled.cpu_ns, 0) - settled.w AS off_left,
    in_bounds(thread_blkio_ns)                              AS blkio_ns,
    in_bounds(thread_major_faults)                          AS major_faults,
    in_bounds(thread_voluntary_switches)                    AS voluntary_switches,
    in_bounds(thread_blocks_read)                           AS blocks_read,
    in_bounds(thread_blocks_written)                        AS blocks_written,
    -- Only a thread that moved blocks, or faulted on a page of a file, can have waited for a device.
    coalesce(in_bounds(thread_blkio_ns),
             coalesce(in_bounds(thread_blocks_read), 0) + coalesce(in_bounds(thread_blocks_written), 0)
             + coalesce(in_bounds(thread_major_faults), 0)) > 0 AS moved_blocks,
    in_bounds(node.gc_ns)                                   AS gc_ns,
    node.kind = 3 AND answered.span_no IS NULL                AS is_dependency,
    node.kind = 3 AND answered.span_no IS NOT NULL            AS is_call,
    coalesce(
        node.attributes['server.address'] || coalesce(':' || node.attributes['server.port'], ''),
        node.attributes['net.peer.name'] || coalesce(':' || node.attributes['net.peer.port'], ''),
        regexp_extract(coalesce(node.attributes['url.full'], node.attributes['http.url'], ''), '^[a-z+]+://([^/?#]+)', 1)
    ) AS address,
    coalesce(node.attributes['db.system.name'], node.attributes['db.system'], node.attributes['rpc.system'],
             node.attributes['messaging.system'], node.attributes['peer.service']) AS dependency_kind
FROM settled
JOIN node ON node.span_no = settled.span_no
LEFT JOIN answered ON answered.span_no = settled.span_no;

-- What one process did of a request, with its container's own meters over exactly that time.
CREATE OR REPLACE TEMP TABLE visit AS
WITH sums AS (
    SELECT
        request_no, visit_no,
        sum(length_ns)::BIGINT AS path_ns, sum(covered_ns)::BIGINT AS covered_ns,
        sum(cpu_ns)::BIGINT AS cpu_ns, sum(wait_ns)::BIGINT AS wait_ns
    FROM piece GROUP BY ALL
)
SELECT
    sums.*, node.service, node.container_id, node.host, node.instance, node.in_container, nullif(node.cpus, 0) AS cpus,
    node.start_ns AS from_ns, node.end_ns AS to_ns, node.end_ns - node.start_ns AS window_ns,
    in_bounds(container_throttled_ns) AS throttled_ns,
    in_bounds(container_usage_ns)     AS usage_ns,
    in_bounds(container_runnable_ns)  AS runnable_ns,
    in_bounds(container_io_pressure_ns) AS io_pressure_ns
FROM sums JOIN node ON node.span_no = sums.visit_no;
