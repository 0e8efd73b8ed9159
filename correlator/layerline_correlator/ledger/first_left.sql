-- Before any cause has taken: all of it is left. `had`: the most that causes which were inferred may have had.

-- makes: left_0
-- reads: piece
CREATE OR REPLACE TEMP TABLE left_0 AS
SELECT
    piece_no,
    cpu_ns AS cpu_left, wait_ns AS wait_left, off_ns AS off_left, queued_ns AS queued_left,
    0::BIGINT AS cpu_had, 0::BIGINT AS wait_had, 0::BIGINT AS off_had, 0::BIGINT AS queued_had
FROM piece;
