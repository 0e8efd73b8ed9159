-- From segments to pieces: what each span on the path did with its own time.
--
-- A piece's length is cpu + wait + off + queued + dark: on a CPU, ready without one, asleep, handed over but not begun,
-- not measured.

-- What is said of the containers that the batch's spans ran in. There may have been a hundred thousand others.
-- makes: said_of_container
-- reads: node
CREATE OR REPLACE TEMP TABLE said_of_container AS
FROM resource SEMI JOIN node ON node.container_id = resource.container_id;

-- The view `container`, of these, worked out once for all that follows.
-- makes: known_container
-- reads: said_of_container
CREATE OR REPLACE TEMP TABLE known_container AS
FROM containers_of('said_of_container');

-- Which container runs inside of which: the views `nested` and `enclosed`, likewise. Hardly any does.
-- makes: known_nested
CREATE OR REPLACE TEMP TABLE known_nested AS
FROM nested;

-- makes: known_enclosed
-- only with: known_nested
CREATE OR REPLACE TEMP TABLE known_enclosed AS
FROM enclosed;

-- The thread's account in time. What a stranger sent is put in bounds: nothing negative, nothing outside its span.
-- makes: slice
-- reads: segment, node
CREATE OR REPLACE TEMP TABLE slice AS
WITH
on_path AS (SELECT DISTINCT span_no FROM segment),
accounts AS (
    SELECT
        node.span_no, node.start_ns, node.end_ns - node.start_ns AS length_ns,
        CASE WHEN len(slices) >= 4 THEN slices
             ELSE [0, node.end_ns - node.start_ns, thread_cpu_ns, coalesce(thread_runqueue_ns, 0)] END AS slices
    FROM node
    SEMI JOIN on_path ON on_path.span_no = node.span_no
    WHERE coalesce(account, 'thread') IN ('thread', 'task') AND thread_cpu_ns IS NOT NULL
),
numbers AS (
    SELECT span_no, start_ns, length_ns, slices, unnest(range(0, len(slices) // 4)) * 4 AS slot FROM accounts
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

-- What those accounts say of each span's own stretches of a path.
-- makes: accounted
-- reads: segment, slice, walk
-- only with: slice
CREATE OR REPLACE TEMP TABLE accounted AS
WITH
own AS (
    SELECT request_no, span_no, slot, any_value(slice.to_ns - slice.from_ns) AS slice_ns,
           any_value(cpu_ns) AS cpu_ns, any_value(wait_ns) AS wait_ns,
           sum(overlap_ns(segment.from_ns, segment.to_ns, slice.from_ns, slice.to_ns))::BIGINT AS own_ns
    FROM segment JOIN slice USING (span_no)
    WHERE segment.from_ns < slice.to_ns AND segment.to_ns > slice.from_ns
    GROUP BY ALL
),
-- Merged slices span the children between them: those ran on the same thread, in time that is not the span's own.
inside AS (
    SELECT walk.request_no, walk.caller_no AS span_no, slot,
           sum(overlap_ns(walk.from_ns, walk.to_ns, slice.from_ns, slice.to_ns))::BIGINT AS inside_ns
    FROM walk JOIN slice ON slice.span_no = walk.caller_no
    WHERE walk.same_thread AND walk.from_ns < slice.to_ns AND walk.to_ns > slice.from_ns
    GROUP BY ALL
),
shares AS (
    SELECT request_no, span_no, own_ns, cpu_ns, wait_ns,
           greatest(own_ns, slice_ns - coalesce(inside_ns, 0)) AS whole_ns
    FROM own LEFT JOIN inside USING (request_no, span_no, slot)
)
SELECT
    request_no, span_no,
    sum(own_ns)::BIGINT AS covered_ns,
    sum(CASE WHEN own_ns = whole_ns THEN cpu_ns  ELSE floor(cpu_ns  * (own_ns / whole_ns)) END)::BIGINT AS cpu_ns,
    sum(CASE WHEN own_ns = whole_ns THEN wait_ns ELSE floor(wait_ns * (own_ns / whole_ns)) END)::BIGINT AS wait_ns,
    sum(own_ns) / sum(whole_ns) AS share
FROM shares GROUP BY ALL;

-- What each span on the path of a request did with its own time, as far as its thread was measured.
-- makes: measured_piece
-- reads: segment, accounted, node
CREATE OR REPLACE TEMP TABLE measured_piece AS
WITH
lengths AS (
    -- Numbered here, where a row is short.
    SELECT
        row_number() OVER (ORDER BY request_no, span_no) AS piece_no, request_no, span_no,
        sum(to_ns - from_ns)::BIGINT AS length_ns, min(from_ns) AS from_ns, max(to_ns) AS to_ns
    FROM segment GROUP BY request_no, span_no
),
-- A call is answered by a span that we know, or it is a dependency seen only from outside.
answered AS (
    SELECT parent_no AS span_no, bool_or(crosses) AS elsewhere, max(start_ns) FILTER (crosses) AS answer_ns,
           arg_max(container_id, start_ns) FILTER (crosses) AS callee
    FROM node WHERE is_client(parent_kind) AND (crosses OR is_client(kind)) GROUP BY ALL
),
-- A span starts when its work was handed over: what lies before its work began is its head.
heads AS (
    SELECT request_no, span_no, least(in_bounds(coalesce(accept_wait_ns, pool_wait_ns)), end_ns - start_ns) AS head_ns,
           sum(overlap_ns(segment.from_ns, segment.to_ns, start_ns, start_ns + head_ns))::BIGINT AS headed_ns,
           -- While its work was not begun its thread may have been ready, for want of a CPU.
           not_below_zero(least(
               coalesce(in_bounds(accept_runqueue_ns), 0),
               coalesce(in_bounds(accept_wait_ns), 0) - coalesce(in_bounds(accept_busy_ns), 0))) AS head_ready_ns
    FROM segment JOIN node USING (span_no)
    WHERE coalesce(accept_wait_ns, pool_wait_ns, 0) > 0
    GROUP BY ALL
),
clipped AS (
    SELECT
        lengths.*,
        least(coalesce(covered_ns, 0), length_ns) AS covered_ns,
        least(coalesce(cpu_ns, 0), covered_ns, length_ns) AS cpu_ns,
        coalesce(wait_ns, 0) AS wait_ns,
        coalesce(share, 0) AS share,
        coalesce(least_or_null(headed_ns, length_ns - least(coalesce(covered_ns, 0), length_ns)), 0) AS headed_ns,
        CASE WHEN head_ns > 0 THEN headed_ns / head_ns ELSE 0 END AS head_share,
        coalesce(head_ready_ns, 0) AS head_ready_ns
    FROM lengths LEFT JOIN accounted USING (request_no, span_no) LEFT JOIN heads USING (request_no, span_no)
),
settled AS (
    SELECT
        clipped.*,
        least(coalesce(clipped.wait_ns, 0), covered_ns - coalesce(clipped.cpu_ns, 0)) AS own_wait_ns,
        floor(least(headed_ns, head_share * head_ready_ns))::BIGINT                     AS head_wait_ns
    FROM clipped
)
SELECT
    settled.piece_no, settled.request_no, settled.span_no, node.visit_no,
    node.service, node.container_id, node.host, node.instance, node.in_container, node.name, node.kind,
    node.account, node.account_reason,
    settled.from_ns, settled.to_ns, settled.length_ns, settled.covered_ns + settled.headed_ns AS covered_ns,
    settled.share, settled.head_share,
    coalesce(settled.cpu_ns, 0)                                        AS cpu_ns,
    own_wait_ns + head_wait_ns                                         AS wait_ns,
    settled.covered_ns - coalesce(settled.cpu_ns, 0) - own_wait_ns     AS off_ns,
    headed_ns - head_wait_ns                                           AS queued_ns,
    settled.length_ns - settled.covered_ns - headed_ns                 AS dark_ns,
    in_bounds(accept_wait_ns) AS accept_wait_ns, in_bounds(accept_busy_ns) AS accept_busy_ns,
    in_bounds(pool_wait_ns) AS pool_wait_ns,
    in_bounds(loop_wait_ns) AS loop_wait_ns, in_bounds(loop_wait_low_ns) AS loop_wait_low_ns,
    in_bounds(try_cast(node.attributes['layerline.loop.runqueue_ns'] AS BIGINT))     AS loop_stood_ns,
    in_bounds(try_cast(node.attributes['layerline.loop.runqueue_low_ns'] AS BIGINT)) AS loop_stood_low_ns,
    in_bounds(loop_queued_ns) AS loop_queued_ns, node.attributes['layerline.loop.held_by'] AS loop_held_by,
    in_bounds(samples_every_ns) AS samples_every_ns, node.attributes['layerline.samples'] AS samples,
    share_of(node.attributes['layerline.holder.wait_low_ratio'])  AS holder_wait_low,
    share_of(node.attributes['layerline.holder.wait_high_ratio']) AS holder_wait_high,
    node.attributes['layerline.lock.held_by']                     AS lock_held_by,
    in_bounds(thread_system_ns)                             AS system_ns,
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
    is_client(node.kind) AND answered.span_no IS NULL                AS is_dependency,
    is_client(node.kind) AND answered.span_no IS NOT NULL            AS is_call,
    is_client(node.kind) AND coalesce(elsewhere, FALSE)              AS is_answered, answer_ns, callee,
    called_address(node.attributes) AS address,
    called_system(node.attributes) AS dependency_kind,
    CASE WHEN
        coalesce(node.attributes['db.system.name'], node.attributes['db.system']) IN ('redis', 'valkey', 'memcached')
        THEN 'cache'
         WHEN coalesce(node.attributes['db.system.name'], node.attributes['db.system']) IS NOT NULL THEN 'database'
         WHEN node.attributes['messaging.system'] IS NOT NULL THEN 'message broker'
         WHEN coalesce(
             node.attributes['http.request.method'], node.attributes['http.method'], node.attributes['url.full'],
                       node.attributes['http.url']) IS NOT NULL THEN 'http service'
    END AS dependency_type,
    -- As it was sent, literals and all: who shows it masks it (verdict/statement.py).
    left(coalesce(
        node.attributes['db.query.text'], node.attributes['db.statement'], node.attributes['db.query.summary'],
        nullif(concat_ws(' ', coalesce(node.attributes['db.operation.name'], node.attributes['db.operation']),
                         coalesce(node.attributes['db.collection.name'], node.attributes['db.sql.table'])), '')
    ), 2000) AS statement
FROM settled
JOIN node ON node.span_no = settled.span_no
LEFT JOIN answered ON answered.span_no = settled.span_no;

-- What a thread was seen doing, look by look: "count kind state wait function file:line".
-- makes: sample
-- reads: measured_piece
-- only where: measured_piece: samples IS NOT NULL
CREATE OR REPLACE TEMP TABLE sample AS
WITH texts AS (
    SELECT piece_no, request_no, visit_no, samples_every_ns, share, unnest(from_json(samples, '["VARCHAR"]')) AS text
    FROM measured_piece WHERE samples IS NOT NULL AND json_valid(samples)
),
words AS (
    SELECT
        *,
        regexp_extract(text, '^(\d{1,9}) (\w+) (\S+) (\S+) (.+)$', ['count', 'kind', 'state', 'wait', 'place']) AS word
    FROM texts
)
SELECT piece_no, request_no, visit_no, coalesce(samples_every_ns, 20_000_000) AS every_ns,
       try_cast(word.count AS BIGINT) AS looks,
       word.kind,
       word.state,
       word.wait,
       word.place
FROM words WHERE try_cast(word.count AS BIGINT) > 0;

-- The same added up per piece: how many looks found it asleep, and where most of each kind were.
-- makes: sampled
-- reads: sample
-- only with: sample
CREATE OR REPLACE TEMP TABLE sampled AS
SELECT
    piece_no, any_value(every_ns) AS every_ns,
    sum(looks)::BIGINT AS looks,
    coalesce(sum(looks) FILTER (kind <> 'cpu'), 0)::BIGINT AS asleep,
    coalesce(sum(looks) FILTER (kind = 'lock'), 0)::BIGINT AS lock_looks,
    coalesce(sum(looks) FILTER (kind = 'pool'), 0)::BIGINT AS pool_looks,
    coalesce(sum(looks) FILTER (kind = 'disk'), 0)::BIGINT AS disk_looks,
    arg_max(place, looks) FILTER (kind = 'cpu')  AS cpu_place,
    arg_max(place, looks) FILTER (kind = 'lock') AS lock_place,
    arg_max(place, looks) FILTER (kind = 'pool') AS pool_place,
    arg_max(place, looks) FILTER (kind NOT IN ('cpu', 'lock', 'pool')) AS asleep_place,
    arg_max(wait, looks) FILTER (kind NOT IN ('cpu', 'lock', 'pool'))  AS asleep_wait
FROM sample GROUP BY piece_no;

-- What one process did of a request, with its container's own meters over exactly that time.
-- makes: measured_visit
-- reads: measured_piece, node, known_container
CREATE OR REPLACE TEMP TABLE measured_visit AS
WITH sums AS (
    SELECT
        request_no, visit_no,
        sum(length_ns)::BIGINT AS path_ns, sum(covered_ns)::BIGINT AS covered_ns,
        sum(cpu_ns)::BIGINT AS cpu_ns, sum(wait_ns)::BIGINT AS wait_ns
    FROM measured_piece GROUP BY ALL
),
-- The CPUs that the container may use, where the agent reads them.
with_cpuset AS (
    SELECT sums.*, node.container_id, cpus_of(container.attributes['layerline.container.cpuset']) AS cpuset
    FROM sums
    JOIN node ON node.span_no = sums.visit_no
    LEFT JOIN known_container AS container ON container.container_id = node.container_id
)
SELECT
    with_cpuset.* EXCLUDE (container_id, cpuset),
    node.service,
    node.container_id,
    node.host,
    node.instance,
    node.in_container,
    -- The process's own word holds for this very request; what is known of the container may be of another time.
    coalesce(nullif(in_bounds(try_cast(node.attributes['layerline.cpus'] AS BIGINT)), 0), nullif(node.cpus, 0),
             len(cpuset)) AS cpus,
    node.start_ns AS from_ns, node.end_ns AS to_ns, node.end_ns - node.start_ns AS window_ns,
    -- The meters that count who ran begin with the handler.
    not_below_zero(node.end_ns - node.start_ns - coalesce(in_bounds(node.accept_wait_ns), 0)) AS metered_ns,
    cpuset,
    node.join_method,
    node.join_confidence,
    node.join_reason,
    node.name,
    node.root,
    node.is_request,
    node.process_first_request = 1 AS is_first,
    in_bounds(container_refaults)     AS refaults,
    in_bounds(container_memory_pressure_ns) AS memory_pressure_ns,
    in_bounds(container_throttled_ns) AS throttled_ns,
    in_bounds(container_throttled_periods) AS throttled_periods,
    -- The quota that held it back: CPUs, and the length of its period. Above the container it is shared with others.
    container_cpu_quota_ns / nullif(container_cpu_period_ns, 0)::DOUBLE AS quota_cpus,
    container_cpu_period_ns AS period_ns,
    node.attributes['layerline.container.throttled_by'] AS throttled_by,
    in_bounds(container_usage_ns)     AS usage_ns,
    in_bounds(container_runnable_ns)  AS runnable_ns,
    in_bounds(container_io_pressure_ns) AS io_pressure_ns
FROM with_cpuset
JOIN node ON node.span_no = with_cpuset.visit_no;

-- Which container is at the other end of a call: the one that answered, else the one that has the address or the name.
-- A container that is gone is still known by what it had. Machines use the same names and addresses: where one on the
-- caller's own machine has it, that is meant.
-- makes: callee
-- reads: measured_piece, known_container
-- only where: measured_piece: is_client(kind)
CREATE OR REPLACE TEMP TABLE callee AS
WITH
addressed AS (
    SELECT container_id, host, unnest(list_distinct(list_concat(
        [attributes['container.name'], attributes['container.label.com.docker.compose.service']],
        list_concat(
            coalesce(from_json(attributes['layerline.container.addresses'], '["VARCHAR"]'), []),
            coalesce(from_json(attributes['layerline.container.aliases'], '["VARCHAR"]'), []))))) AS address
    FROM resource WHERE container_id IS NOT NULL AND attributes['container.name'] IS NOT NULL
),
asked AS (
    SELECT piece_no, host, callee, regexp_extract(address, '^\[?([^\]]*?)\]?(:\d+)?$', 1) AS address
    FROM measured_piece WHERE is_client(kind)
),
meant AS (
    SELECT DISTINCT asked.piece_no, addressed.container_id, addressed.host, asked.host = addressed.host AS is_near
    FROM asked
    JOIN
        addressed
        ON addressed.address = asked.address
            AND asked.address <> ''
            AND addressed.container_id IS DISTINCT FROM asked.callee
)
SELECT DISTINCT piece_no, asked.callee AS container_id, container.host, TRUE AS answered
FROM asked JOIN known_container AS container ON container.container_id = asked.callee
UNION
SELECT piece_no, container_id, host, FALSE FROM meant
QUALIFY coalesce(is_near, FALSE) OR NOT bool_or(coalesce(is_near, FALSE)) OVER (PARTITION BY piece_no);
