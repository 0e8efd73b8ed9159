-- From evidence to ledgers: replaces what was known of the batch's requests, in one transaction. Parts and unexplained sum to
-- the duration.
DELETE FROM request WHERE trace_id IN (SELECT trace_id FROM batch) AND start_ns BETWEEN $from_ns AND $to_ns;
DELETE FROM part    WHERE trace_id IN (SELECT trace_id FROM batch) AND start_ns BETWEEN $from_ns AND $to_ns;
DELETE FROM blind   WHERE trace_id IN (SELECT trace_id FROM batch) AND start_ns BETWEEN $from_ns AND $to_ns;
DELETE FROM stay    WHERE trace_id IN (SELECT trace_id FROM batch) AND start_ns BETWEEN $from_ns AND $to_ns;

CREATE OR REPLACE TEMP TABLE fresh_part AS
SELECT
    request_no, any_value(entry.trace_id) AS trace_id, any_value(entry.span_id) AS span_id,
    any_value(entry.start_ns - entry.shift_ns) AS start_ns,
    cause, coalesce(piece.service, '') AS service, evidence.entity_type, evidence.entity_id,
    sum(lost_ns)::BIGINT AS lost_ns, sum(low_ns)::BIGINT AS low_ns, sum(high_ns)::BIGINT AS high_ns,
    bool_or(evidence.inferred) AS inferred,
    arg_max(neighbours, lost_ns) AS neighbours,
    arg_max(because, lost_ns)    AS because,
    arg_max(place, lost_ns) FILTER (place IS NOT NULL) AS place,
    CASE WHEN evidence.entity_type = 'service' THEN count(DISTINCT piece_no) END AS calls
FROM evidence
JOIN piece USING (piece_no)
JOIN entry USING (request_no)
GROUP BY request_no, cause, coalesce(piece.service, ''), evidence.entity_type, evidence.entity_id
HAVING sum(lost_ns) > 0;

INSERT INTO part BY NAME SELECT * EXCLUDE (request_no) FROM fresh_part;

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
LEFT JOIN (SELECT piece_no, sum(lost_ns) AS taken_ns FROM evidence GROUP BY piece_no) AS explained USING (piece_no)
GROUP BY ALL;

-- The weakest join on the path.
CREATE OR REPLACE TEMP TABLE joined AS
SELECT request_no, weakest.* FROM (
    SELECT request_no, first({'join_method': join_method, 'join_confidence': join_confidence, 'join_reason': join_reason}
                             ORDER BY join_confidence, join_method NULLS LAST) AS weakest
    FROM visit GROUP BY request_no);

INSERT INTO request BY NAME
SELECT
    entry.trace_id, entry.span_id, root, coalesce(service, '') AS service, name AS operation, resource, container_id, host,
    start_ns - shift_ns AS start_ns, end_ns - shift_ns AS end_ns, status,
    end_ns - start_ns - coalesce(lost_ns, 0) AS unexplained_ns,
    coalesce(moved_ns, 0) AS skew_adjusted_ns,
    NULL::BIGINT AS usual_ns, false AS slow, NULL AS cause,
    joined.join_method, coalesce(joined.join_confidence, 0.0) AS join_confidence, joined.join_reason, $now_ns AS judged_ns
FROM entry
LEFT JOIN (SELECT request_no, sum(lost_ns)::BIGINT AS lost_ns FROM fresh_part GROUP BY ALL) AS lost USING (request_no)
LEFT JOIN joined USING (request_no)
LEFT JOIN (
    SELECT request_no, max(abs(node.shift_ns - asked.shift_ns)) AS moved_ns
    FROM walk JOIN node USING (span_no) JOIN entry AS asked USING (request_no) GROUP BY ALL
) AS moves USING (request_no);

-- A cause is blind where one of its needs was not measured in a process that the request spent time in.
INSERT INTO blind BY NAME
WITH
need AS (
    SELECT unnest($causes::VARCHAR[]) AS cause, unnest($numbers::INTEGER[]) AS number,
           unnest($facts::VARCHAR[]) AS fact, unnest($applies::VARCHAR[][][]) AS applies
),
places AS (
    SELECT request_no, visit_no, container_id, host, coalesce(service, '') AS service, path_ns, wait_ns, covered_ns, inferred,
           sum(path_ns) OVER (PARTITION BY request_no) AS request_ns
    FROM visit
),
calls AS (
    SELECT request_no, visit_no, sum(length_ns) AS call_ns, sum(length_ns) FILTER (is_answered) AS answered_ns,
           sum(length_ns) FILTER (is_dependency) AS unanswered_ns,
           bool_or(container_id IS NOT NULL OR piece_no IN (SELECT piece_no FROM callee)) AS in_reach
    FROM piece WHERE is_client(kind) GROUP BY ALL
),
-- What is true of each: APPLIES of ledger/causes. What can have taken less than a twentieth of the request decides nothing.
natures AS (
    SELECT places.*, list_filter([
        CASE WHEN container_id IS NOT NULL THEN 'container' END,
        CASE WHEN covered_ns < 0.9 * path_ns OR inferred OR wait_ns >= 0.01 * request_ns THEN 'wait for a CPU' END,
        CASE WHEN call_ns >= 0.05 * request_ns THEN 'call' END,
        CASE WHEN answered_ns >= 0.05 * request_ns THEN 'answered call' END,
        CASE WHEN unanswered_ns >= 0.05 * request_ns THEN 'unanswered call' END,
        CASE WHEN call_ns >= 0.05 * request_ns AND in_reach THEN 'called container' END
    ], lambda word: word IS NOT NULL) AS nature
    FROM places LEFT JOIN calls USING (request_no, visit_no)
    WHERE path_ns >= 0.05 * request_ns
),
-- The machines that our agent reads.
read_host AS (
    SELECT DISTINCT series.host FROM reading
    JOIN series ON series.series = reading.line
    JOIN resource ON resource.resource = series.resource
    WHERE resource.service IS NULL AND resource.attributes['layerline.boot_id'] IS NOT NULL
),
unmet AS (
    SELECT places.request_no, cause, number, places.service,
           -- What only a container has is not missing where there is none, if anything else would do.
           coalesce(
               list(DISTINCT need.fact ORDER BY need.fact) FILTER (places.container_id IS NOT NULL OR need.fact NOT LIKE 'container.%'),
               list(DISTINCT need.fact ORDER BY need.fact)) AS facts,
           bool_or(read.request_no IS NOT NULL AND container.attributes['layerline.boot_id'] IS NULL) AS foreign_readings,
           any_value(places.host) AS host, coalesce(any_value(places.host) IN (FROM read_host), false) AS agent_reads
    FROM natures AS places
    LEFT JOIN known_container AS container ON container.container_id = places.container_id
    LEFT JOIN fact AS read
        ON read.request_no = places.request_no AND read.visit_no = places.visit_no AND read.name = 'container.cpu.time'
    JOIN need ON len(list_filter(need.applies, lambda words: NOT list_has_any(words, nature))) = 0
    LEFT JOIN fact ON fact.request_no = places.request_no AND fact.visit_no = places.visit_no AND fact.name = need.fact
    GROUP BY places.request_no, cause, number, places.service, places.visit_no
    HAVING count(fact.name) = 0
),
whys AS (
    SELECT request_no, coalesce(service, '') AS service, string_agg(DISTINCT account_reason, ', ' ORDER BY account_reason) AS why
    FROM piece WHERE covered_ns < 0.9 * length_ns GROUP BY ALL
)
SELECT DISTINCT
    entry.trace_id, entry.span_id, start_ns - shift_ns AS start_ns, cause, unmet.service, facts,
    CASE WHEN facts = ['layerline.account'] THEN why END AS why, foreign_readings, unmet.host, agent_reads
FROM unmet
JOIN entry ON entry.request_no = unmet.request_no
LEFT JOIN whys ON whys.request_no = unmet.request_no AND whys.service = unmet.service;
