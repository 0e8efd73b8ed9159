-- From spans to segments: the critical path of every request in the batch.

-- Ids under which several spans arrived: the two halves of a call that share one id, or a span that was sent again.
-- makes: repeated_id
-- reads: arrived
CREATE OR REPLACE TEMP TABLE repeated_id AS
SELECT trace_id, span_id FROM arrived GROUP BY ALL HAVING count(*) > 1;

-- The spans under such an id, in the order in which they called each other: the caller's half first, then who answered, the
-- longest first. What one sender sent again is one span: the longest. `key` tells them apart.
-- makes: half
-- reads: arrived, repeated_id, tie
-- only with: repeated_id
CREATE OR REPLACE TEMP TABLE half AS
WITH
under_one_id AS (
    SELECT
        arrived.received_no, arrived.trace_id, arrived.span_id, arrived.kind, arrived.resource, tie.instance,
        sender_of(resource.resource, resource.service, resource.instance) AS sender,
        arrived.start_ns, arrived.end_ns - arrived.start_ns AS length_ns
    FROM arrived
    SEMI JOIN repeated_id ON repeated_id.trace_id = arrived.trace_id AND repeated_id.span_id = arrived.span_id
    LEFT JOIN resource ON resource.resource = arrived.resource
    LEFT JOIN tie ON tie.resource = arrived.resource AND tie.at_ns = arrived.start_ns
),
longest_of_sender AS (
    FROM under_one_id
    QUALIFY row_number() OVER (
        PARTITION BY trace_id, span_id, kind, sender ORDER BY length_ns DESC, start_ns, received_no
    ) = 1
),
in_order AS (
    SELECT *, row_number() OVER (
        PARTITION BY trace_id, span_id
        ORDER BY
            CASE WHEN is_caller(kind) THEN 1 WHEN is_entry(kind) THEN 2 ELSE 3 END,
            length_ns DESC, start_ns, sender, kind
    ) AS place
    FROM longest_of_sender
)
SELECT *, CASE WHEN place = 1 THEN span_id ELSE span_id || '/' || place END AS key FROM in_order;

-- What was sent again and is left out.
-- makes: sent_again
-- reads: arrived, repeated_id, half
-- only with: repeated_id
CREATE OR REPLACE TEMP TABLE sent_again AS
SELECT arrived.received_no
FROM arrived
SEMI JOIN repeated_id ON repeated_id.trace_id = arrived.trace_id AND repeated_id.span_id = arrived.span_id
ANTI JOIN half ON half.received_no = arrived.received_no;

-- The one parent of each span that has to do with such an id, by its key. The half that answered is called by the half before
-- it. A child belongs to the half of its own sender, to the last of them where it sent several; else to the caller's half.
-- makes: parent_half
-- reads: arrived, half, tie
-- only with: half
CREATE OR REPLACE TEMP TABLE parent_half AS
WITH
called_within AS (
    SELECT answer.received_no, before.key
    FROM half AS answer
    JOIN half AS before
        ON before.trace_id = answer.trace_id AND before.span_id = answer.span_id AND before.place = answer.place - 1
),
may_belong_to AS (
    SELECT
        arrived.received_no, half.key, half.place,
        coalesce(half.resource = arrived.resource, FALSE) AS same_resource,
        coalesce(half.instance = tie.instance, FALSE) OR same_resource AS same_process
    FROM arrived
    JOIN half ON half.trace_id = arrived.trace_id AND half.span_id = arrived.parent_span_id
        AND half.span_id <> arrived.span_id
    ANTI JOIN called_within ON called_within.received_no = arrived.received_no
    LEFT JOIN tie ON tie.resource = arrived.resource AND tie.at_ns = arrived.start_ns
)
FROM called_within
UNION ALL
SELECT
    received_no,
    first(key ORDER BY same_resource DESC, same_process DESC, CASE WHEN same_process THEN -place ELSE place END)
FROM may_belong_to GROUP BY received_no;

-- The batch's spans by number, each with the span that called it. `crosses`: that one ran in another process. A key is one span's
-- in its trace, so that a span has one parent at most.
-- makes: numbered
-- reads: arrived, tie, half, sent_again, parent_half
CREATE OR REPLACE TEMP TABLE numbered AS
WITH
chosen AS (
    SELECT
        span.received_no, span.trace_id, span.kind, span.start_ns, span.end_ns, tie.instance, tie.host,
        coalesce(half.key, span.span_id) AS key, coalesce(parent_half.key, span.parent_span_id) AS parent_key,
        row_number() OVER (ORDER BY span.trace_id, span.start_ns, span.end_ns DESC, span.span_id, half.place) AS span_no
    FROM arrived AS span
    ANTI JOIN sent_again ON sent_again.received_no = span.received_no
    LEFT JOIN half ON half.received_no = span.received_no
    LEFT JOIN parent_half ON parent_half.received_no = span.received_no
    LEFT JOIN tie ON tie.resource = span.resource AND tie.at_ns = span.start_ns
),
linked AS (
    SELECT
        child.* EXCLUDE (key, parent_key),
        parent.span_no                             AS parent_no,
        parent.kind                                AS parent_kind,
        (parent.instance IS DISTINCT FROM child.instance AND parent.span_no IS NOT NULL) AS crosses
    FROM chosen AS child
    LEFT JOIN chosen AS parent
        ON parent.trace_id = child.trace_id AND parent.key = child.parent_key AND parent.key <> child.key
),
-- A trace whose spans form a ring has no root: its earliest span is taken for one.
rootless AS (
    SELECT min(span_no) AS span_no FROM linked GROUP BY trace_id HAVING count(*) FILTER (parent_no IS NULL) = 0
)
SELECT linked.* EXCLUDE (trace_id) REPLACE (CASE WHEN rootless.span_no IS NULL THEN parent_no END AS parent_no)
FROM linked LEFT JOIN rootless ON rootless.span_no = linked.span_no;

-- The spans themselves. A visit is what one process did of a request: it begins where a span's parent is in another process.
-- Where caller and callee are on one host their clocks are one clock, and nothing is moved.
-- makes: node
-- reads: numbered, arrived, tie
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
    arrived.* REPLACE (arrived.start_ns + shift_ns AS start_ns, arrived.end_ns + shift_ns AS end_ns),
    tie.service, tie.instance, tie.container_id, tie.host, tie.in_container, tie.cpus,
    tie.method AS join_method, tie.confidence AS join_confidence, tie.reason AS join_reason,
    numbered.span_no, parent_no, parent_kind, crosses,
    visit_no, shift_ns, depth,
    parent_no IS NULL AS root,
    parent_no IS NULL OR (is_entry(arrived.kind) AND crosses) AS is_request
FROM numbered
JOIN down ON down.span_no = numbered.span_no
JOIN arrived ON arrived.received_no = numbered.received_no
LEFT JOIN tie ON tie.resource = arrived.resource AND tie.at_ns = arrived.start_ns;

-- Its requests. Two halves of one id that began in the same nanosecond are one request: it is known by both.
-- makes: entry
-- reads: node, repeated_id
CREATE OR REPLACE TEMP TABLE entry AS
WITH second_half AS (
    SELECT node.span_no FROM node
    SEMI JOIN repeated_id ON repeated_id.trace_id = node.trace_id AND repeated_id.span_id = node.span_id
    WHERE is_request
    QUALIFY row_number() OVER (
        PARTITION BY node.trace_id, node.span_id, node.start_ns - shift_ns ORDER BY root DESC, depth, node.span_no
    ) > 1
)
SELECT
    span_no AS request_no, span_no, trace_id, span_id, root, resource, service, name, container_id, host,
    start_ns, end_ns, shift_ns, status
FROM node ANTI JOIN second_half USING (span_no)
WHERE is_request;

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
        'same_thread': coalesce(child.thread_id = parent.thread_id AND child.resource = parent.resource, FALSE)
    } ORDER BY child.end_ns DESC, child.start_ns, child.span_no) AS kids
FROM node AS child
JOIN node AS parent ON parent.span_no = child.parent_no
WHERE child.end_ns > child.start_ns
  AND (child.end_ns <= parent.end_ns OR (child.crosses AND is_client(parent.kind))
       OR (is_client(child.kind)
           AND child.end_ns - parent.end_ns <= least(5_000_000, (child.end_ns - child.start_ns) // 20)))
GROUP BY parent.span_no;

-- The spans on the path, with the stretch in which each was waited for.
-- makes: walk
-- reads: entry, children
CREATE OR REPLACE TEMP TABLE walk AS
WITH RECURSIVE path AS (
    -- Above each request stands a row that waited for the whole of it, so that what is waited for is asked in one place.
    SELECT
        request_no, NULL::BIGINT AS span_no, NULL::BIGINT AS caller_no, FALSE AS same_thread,
        start_ns AS from_ns, end_ns AS to_ns,
        [{'no': span_no, 'from_ns': start_ns, 'to_ns': end_ns, 'same_thread': FALSE}] AS picks
    FROM entry
    UNION ALL
    SELECT
        step.request_no, step.pick."no", step.span_no, step.pick.same_thread, step.pick.from_ns, step.pick.to_ns,
        waited_for(kids, step.pick.from_ns, step.pick.to_ns, step.request_no)
    FROM (SELECT request_no, span_no, unnest(picks) AS pick FROM path WHERE len(picks) > 0) AS step
    LEFT JOIN children ON children.parent_no = step.pick."no"
)
FROM path WHERE span_no IS NOT NULL;

-- What lies between the children that a span waited for is its own.
-- Pieces of the path, each owned by one span. The segments of a request tile it exactly.
-- makes: segment
-- reads: walk
CREATE OR REPLACE TEMP TABLE segment AS
WITH
bounds AS (
    SELECT
        request_no, span_no,
        list_concat([from_ns], list_reverse(list_transform(coalesce(picks, []), lambda pick: pick.to_ns))) AS begins,
        list_append(list_reverse(list_transform(coalesce(picks, []), lambda pick: pick.from_ns)), to_ns)       AS ends
    FROM walk
),
pairs AS (
    SELECT request_no, span_no, unnest(begins) AS from_ns, unnest(ends) AS to_ns FROM bounds
)
FROM pairs WHERE from_ns < to_ns;
