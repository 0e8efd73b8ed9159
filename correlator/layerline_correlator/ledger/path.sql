-- From spans to segments: the critical path of every request in the batch.

-- The batch's spans, each with the span that called it. `crosses`: that one ran in another process.
-- makes: numbered
-- reads: arrived, tie
CREATE OR REPLACE TEMP TABLE numbered AS
WITH
chosen AS (
    SELECT
        span.*, tie.service, tie.instance, tie.container_id, tie.host, tie.in_container, tie.cpus,
        tie.method AS join_method, tie.confidence AS join_confidence, tie.reason AS join_reason,
        row_number() OVER (ORDER BY span.trace_id, span.start_ns, span.end_ns DESC, span.span_id) AS span_no
    FROM arrived AS span
    LEFT JOIN tie ON tie.resource = span.resource AND tie.at_ns = span.start_ns
),
linked AS (
    SELECT
        child.*,
        parent.span_no                             AS parent_no,
        parent.kind                                AS parent_kind,
        parent.instance IS DISTINCT FROM child.instance AND parent.span_no IS NOT NULL AS crosses
    FROM chosen AS child
    LEFT JOIN chosen AS parent
        ON parent.trace_id = child.trace_id AND parent.span_id = child.parent_span_id
        AND parent.span_id <> child.span_id
),
-- A trace whose spans form a ring has no root: its earliest span is taken for one.
rootless AS (
    SELECT min(span_no) AS span_no FROM linked GROUP BY trace_id HAVING count(*) FILTER (parent_no IS NULL) = 0
)
SELECT linked.* REPLACE (CASE WHEN rootless.span_no IS NULL THEN parent_no END AS parent_no)
FROM linked LEFT JOIN rootless ON rootless.span_no = linked.span_no;

-- A visit is what one process did of a request: it begins where a span's parent is in another process.
-- Where caller and callee are on one host their clocks are one clock, and nothing is moved.
-- makes: node
-- reads: numbered
CREATE OR REPLACE TEMP TABLE node AS
WITH RECURSIVE down AS (
    SELECT span_no, span_no AS visit_no, 0::BIGINT AS shift_ns, 0 AS depth
    FROM numbered
    WHERE parent_no IS NULL
    UNION ALL
    SELECT
        child.span_no,
        CASE WHEN child.crosses THEN child.span_no ELSE down.visit_no END,
        down.shift_ns + CASE
            WHEN child.crosses AND is_client(parent.kind) AND (child.host = parent.host) IS NOT TRUE
            THEN least_shift(child.start_ns, child.end_ns, parent.start_ns, parent.end_ns)
            ELSE 0 END,
        down.depth + 1
    FROM down
    JOIN numbered AS parent ON parent.span_no = down.span_no
    JOIN numbered AS child ON child.parent_no = down.span_no
    WHERE down.depth < 10000
)
SELECT
    numbered.* REPLACE (start_ns + shift_ns AS start_ns, end_ns + shift_ns AS end_ns),
    visit_no, shift_ns,
    parent_no IS NULL AS root,
    parent_no IS NULL OR (is_entry(kind) AND crosses) AS is_request
FROM numbered JOIN down ON down.span_no = numbered.span_no;

-- Its requests.
-- makes: entry
-- reads: node
CREATE OR REPLACE TEMP TABLE entry AS
SELECT span_no AS request_no, * FROM node WHERE is_request;

-- Whom each span may have waited for, latest end first. A child that outlives its parent is not waited for, unless it is
-- the other end of the parent's own call: a server may still tidy up when its answer has already arrived. Nor does a call
-- that was closed just after its parent do: some instrumentations end it when the connection is given back.
-- makes: children
-- reads: node
CREATE OR REPLACE TEMP TABLE children AS
SELECT
    parent.span_no AS parent_no,
    list({
        'no': child.span_no, 'from_ns': child.start_ns, 'to_ns': child.end_ns,
        'same_thread': coalesce(child.thread_id = parent.thread_id AND child.resource = parent.resource, false)
    } ORDER BY child.end_ns DESC, child.start_ns, child.span_no) AS kids
FROM node AS child
JOIN node AS parent ON parent.span_no = child.parent_no
WHERE child.end_ns > child.start_ns
  AND (child.end_ns <= parent.end_ns OR (child.crosses AND is_client(parent.kind))
       OR (is_client(child.kind) AND child.end_ns - parent.end_ns <= least(5_000_000, (child.end_ns - child.start_ns) // 20)))
GROUP BY parent.span_no;

-- The spans on the path, with the stretch in which each was waited for.
-- makes: walk
-- reads: entry, children
CREATE OR REPLACE TEMP TABLE walk AS
WITH RECURSIVE path AS (
    SELECT
        entry.request_no, entry.span_no, NULL::BIGINT AS caller_no, false AS same_thread,
        entry.start_ns AS from_ns, entry.end_ns AS to_ns,
        waited_for(kids, entry.start_ns, entry.end_ns, entry.request_no) AS picks
    FROM entry
    LEFT JOIN children ON children.parent_no = entry.span_no
    UNION ALL
    SELECT
        step.request_no, step.pick."no", step.span_no, step.pick.same_thread, step.pick.from_ns, step.pick.to_ns,
        waited_for(kids, step.pick.from_ns, step.pick.to_ns, step.request_no)
    FROM (SELECT request_no, span_no, unnest(picks) AS pick FROM path WHERE len(picks) > 0) AS step
    LEFT JOIN children ON children.parent_no = step.pick."no"
)
FROM path;

-- What lies between the children that a span waited for is its own.
-- Pieces of the path, each owned by one span. The segments of a request tile it exactly.
-- makes: segment
-- reads: walk
CREATE OR REPLACE TEMP TABLE segment AS
WITH
bounds AS (
    SELECT
        request_no, span_no,
        list_concat([from_ns], list_reverse(list_transform(coalesce(picks, []), lambda pick: pick.to_ns)))     AS begins,
        list_append(list_reverse(list_transform(coalesce(picks, []), lambda pick: pick.from_ns)), to_ns)       AS ends
    FROM walk
),
pairs AS (
    SELECT request_no, span_no, unnest(begins) AS from_ns, unnest(ends) AS to_ns FROM bounds
)
FROM pairs WHERE from_ns < to_ns;
