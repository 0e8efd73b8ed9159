-- From evidence to parts, and the last look at them: whatever a cause claimed and however it was clipped, no ledger is written
-- that does not add up.

-- makes: summed_part
-- reads: evidence, piece, entry
CREATE OR REPLACE TEMP TABLE summed_part AS
SELECT
    request_no, any_value(entry.trace_id) AS trace_id, any_value(entry.span_id) AS span_id,
    any_value(entry.start_ns - entry.shift_ns) AS start_ns,
    cause, coalesce(piece.service, '') AS service, evidence.entity_type, evidence.entity_id,
    sum(lost_ns)::BIGINT AS lost_ns, sum(low_ns)::BIGINT AS low_ns, sum(high_ns)::BIGINT AS high_ns,
    bool_or(evidence.inferred) AS inferred,
    arg_max(neighbours_no, lost_ns) AS neighbours_no,
    arg_max(because, lost_ns)    AS because,
    arg_max(place, lost_ns) FILTER (place IS NOT NULL) AS place,
    CASE WHEN evidence.entity_type = 'service' THEN len(list_distinct(list(piece_no))) END AS calls,
    arg_max(dependency_kind, lost_ns) FILTER (evidence.entity_type = 'service' AND is_dependency) AS dependency,
    arg_max(dependency_type, lost_ns) FILTER (evidence.entity_type = 'service' AND is_dependency) AS dependency_type,
    arg_max(statement, lost_ns)       FILTER (evidence.entity_type = 'service' AND is_dependency) AS statement
FROM evidence
JOIN piece USING (piece_no)
JOIN entry USING (request_no)
GROUP BY request_no, cause, coalesce(piece.service, ''), evidence.entity_type, evidence.entity_id
HAVING sum(lost_ns) <> 0;

-- makes: taken_of_piece
-- reads: evidence
CREATE OR REPLACE TEMP TABLE taken_of_piece AS
SELECT piece_no, sum(lost_ns)::BIGINT AS taken_ns FROM evidence GROUP BY piece_no;

-- The requests whose ledger would not add up, and what is wrong with it.
-- makes: refusal
-- reads: summed_part, taken_of_piece, piece, entry
CREATE OR REPLACE TEMP TABLE refusal AS
WITH
sum_of_pieces AS (
    SELECT
        request_no, sum(length_ns) AS pieces_ns, bool_or(coalesce(taken_ns, 0) NOT BETWEEN 0 AND length_ns) AS overdrawn
    FROM piece LEFT JOIN taken_of_piece USING (piece_no) GROUP BY request_no
),
sum_of_parts AS (
    SELECT request_no, sum(lost_ns) AS parts_ns, bool_or(lost_ns < 0 OR low_ns < 0) AS negative,
           bool_or((low_ns <= lost_ns AND lost_ns <= high_ns) IS NOT TRUE) AS out_of_range
    FROM summed_part GROUP BY request_no
),
faults AS (
    SELECT
        request_no,
        CASE WHEN coalesce(pieces_ns, 0) <> end_ns - start_ns THEN 'its pieces are not its duration'
             WHEN negative                                    THEN 'a part is negative'
             WHEN parts_ns > end_ns - start_ns                THEN 'its parts exceed its duration'
             WHEN overdrawn                                   THEN 'a piece is charged more than its length'
             WHEN out_of_range                                THEN 'a part is outside its own range' END AS why
    FROM entry
    LEFT JOIN sum_of_pieces USING (request_no)
    LEFT JOIN sum_of_parts USING (request_no)
)
FROM faults WHERE why IS NOT NULL;
