-- From evidence to ledgers, in one transaction. Parts and unexplained sum to the duration: a request whose parts cannot be
-- (ledger/parts.sql) is kept without any (keep_refused.sql).
INSERT INTO part BY NAME
SELECT summed_part.* EXCLUDE (request_no, neighbours_no), neighbours.neighbours
FROM summed_part
ANTI JOIN refusal ON refusal.request_no = summed_part.request_no
LEFT JOIN neighbours ON neighbours.neighbours_no = summed_part.neighbours_no;

INSERT INTO stay BY NAME
SELECT
    entry.trace_id, entry.span_id, entry.start_ns - entry.shift_ns AS start_ns,
    coalesce(piece.service, '') AS service, piece.container_id, piece.host,
    sum(length_ns)::BIGINT AS own_ns, sum(length_ns - coalesce(taken_ns, 0))::BIGINT AS open_ns,
    -- Where the run queue was measured, what was waited for there and in no other time. A coroutine that awaits is not ready.
    sum(CASE WHEN piece.account = 'task' OR piece.account_reason = 'coroutine' THEN wait_left
             WHEN piece.account IS NULL OR inferred                           THEN length_ns - coalesce(taken_ns, 0)
             ELSE wait_left + dark_ns END)::BIGINT AS ready_ns
FROM piece
JOIN left_over USING (piece_no)
JOIN entry USING (request_no)
ANTI JOIN refusal USING (request_no)
LEFT JOIN taken_of_piece USING (piece_no)
GROUP BY ALL;

-- The weakest join on the path.
CREATE OR REPLACE TEMP TABLE joined AS
SELECT request_no, weakest.* FROM (
    SELECT
        request_no, first({'join_method': join_method, 'join_confidence': join_confidence, 'join_reason': join_reason}
                             ORDER BY join_confidence, join_method NULLS LAST) AS weakest
    FROM visit GROUP BY request_no);

-- From where each visit was seen: what was measured there, and of what nature it is (APPLIES of ledger/causes). What could not be
-- seen depends on that alone, so it is kept once for all requests that are alike in it (blind_spots.sql), under a number.
CREATE OR REPLACE TEMP TABLE viewpoint AS
WITH
known AS (SELECT request_no, visit_no, list_sort(list(DISTINCT name)) AS known FROM fact GROUP BY ALL),
places AS (
    SELECT visit.request_no, visit.visit_no, visit.container_id, visit.host, coalesce(service, '') AS service,
           path_ns, wait_ns, covered_ns, inferred, sum(path_ns) OVER (PARTITION BY visit.request_no) AS request_ns,
           coalesce(known, []) AS known,
           -- Somebody reads the container, but not our agent.
           coalesce(
               list_contains(known, 'container.cpu.time') AND container.attributes['layerline.boot_id'] IS NULL, FALSE
           )
               AS foreign_readings
    FROM visit
    LEFT JOIN known USING (request_no, visit_no)
    LEFT JOIN known_container AS container ON container.container_id = visit.container_id
    QUALIFY path_ns >= 0.05 * request_ns
),
calls AS (
    SELECT request_no, visit_no, sum(length_ns) AS call_ns, sum(length_ns) FILTER (is_answered) AS answered_ns,
           sum(length_ns) FILTER (is_dependency) AS unanswered_ns,
           bool_or(container_id IS NOT NULL OR piece_no IN (SELECT piece_no FROM callee)) AS in_reach
    FROM piece WHERE is_client(kind) GROUP BY ALL
),
whys AS (
    SELECT
        request_no,
        coalesce(service, '') AS service,
        string_agg(DISTINCT account_reason, ', ' ORDER BY account_reason) AS why
    FROM piece WHERE covered_ns < 0.9 * length_ns GROUP BY ALL
),
-- What can have taken less than a twentieth of the request decides nothing.
seen_from AS (
    SELECT
        request_no, known, container_id IS NULL AS outside, service, why, foreign_readings, host,
        coalesce(host IN (FROM read_host), FALSE) AS agent_reads,
        list_filter([
            CASE WHEN container_id IS NOT NULL THEN 'container' END,
            CASE WHEN covered_ns < 0.9 * path_ns OR inferred OR wait_ns >= 0.01 * request_ns THEN 'wait for a CPU' END,
            CASE WHEN call_ns >= 0.05 * request_ns THEN 'call' END,
            CASE WHEN answered_ns >= 0.05 * request_ns THEN 'answered call' END,
            CASE WHEN unanswered_ns >= 0.05 * request_ns THEN 'unanswered call' END,
            CASE WHEN call_ns >= 0.05 * request_ns AND in_reach THEN 'called container' END
        ], lambda word: word IS NOT NULL) AS nature
    FROM places LEFT JOIN calls USING (request_no, visit_no) LEFT JOIN whys USING (request_no, service)
)
SELECT
    *,
    hash(
        $needs::VARCHAR, known, outside, service, coalesce(why, ''), foreign_readings, coalesce(host, ''), agent_reads,
        nature
    ) AS spot
FROM seen_from;

INSERT INTO request BY NAME
SELECT
    entry.trace_id,
    entry.span_id,
    root,
    coalesce(service, '') AS service,
    name AS operation,
    resource,
    container_id,
    host,
    start_ns - shift_ns AS start_ns, end_ns - shift_ns AS end_ns, status,
    end_ns - start_ns - coalesce(lost_ns, 0) AS unexplained_ns,
    coalesce(moved_ns, 0) AS skew_adjusted_ns,
    NULL::BIGINT AS usual_ns, FALSE AS slow, NULL AS cause,
    joined.join_method,
    coalesce(joined.join_confidence, 0.0) AS join_confidence,
    joined.join_reason,
    $now_ns AS judged_ns,
    -- One that was not drawn and is worked out all the same stands for itself.
    coalesce(nullif(known_trace.planned, 0), 1) AS weight,
    weight AS planned,
    coalesce(known_trace.fair, TRUE) AS fair,
    blind_spots
FROM entry
LEFT JOIN (SELECT request_no, list(DISTINCT spot ORDER BY spot) AS blind_spots FROM viewpoint GROUP BY ALL) AS spots
    USING (request_no)
LEFT JOIN known_trace ON known_trace.trace_id = entry.trace_id
LEFT JOIN (
    SELECT request_no, sum(lost_ns)::BIGINT AS lost_ns
    FROM summed_part ANTI JOIN refusal USING (request_no)
    GROUP BY ALL
) AS lost USING (request_no)
LEFT JOIN joined USING (request_no)
LEFT JOIN (
    SELECT request_no, max(abs(node.shift_ns - asked.shift_ns)) AS moved_ns
    FROM walk JOIN node USING (span_no) JOIN entry AS asked USING (request_no) GROUP BY ALL
) AS moves USING (request_no);
