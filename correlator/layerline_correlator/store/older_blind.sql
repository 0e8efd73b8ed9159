-- Stores of before version 5 have a row for each cause that was blind in a request, now in `old_blind` (store.py): each
-- different one becomes a spot of its own.
ALTER TABLE old_blind ADD COLUMN IF NOT EXISTS foreign_readings BOOLEAN;
ALTER TABLE old_blind ADD COLUMN IF NOT EXISTS host VARCHAR;
ALTER TABLE old_blind ADD COLUMN IF NOT EXISTS agent_reads BOOLEAN;

CREATE OR REPLACE TEMP TABLE old_spot AS
SELECT
    *, hash(cause, service, facts, coalesce(why, ''), coalesce(foreign_readings::VARCHAR, ''), coalesce(host, ''),
            coalesce(agent_reads::VARCHAR, '')) AS spot
FROM old_blind;

INSERT INTO blind_spot BY NAME SELECT DISTINCT * EXCLUDE (trace_id, span_id, start_ns) FROM old_spot;

UPDATE request SET blind_spots = spots.blind_spots
FROM (
    SELECT trace_id, span_id, start_ns, list(DISTINCT spot ORDER BY spot) AS blind_spots FROM old_spot GROUP BY ALL
) AS spots
WHERE spots.trace_id = request.trace_id AND spots.span_id = request.span_id AND spots.start_ns = request.start_ns;

DROP TABLE old_spot;
DROP TABLE old_blind;
