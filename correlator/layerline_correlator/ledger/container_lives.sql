-- What happened to containers around the batch's requests: when they were frozen, and when they were dead.

-- What happened to anybody then. On most days nothing does for hours.
-- makes: near_event
-- reads: visit
CREATE OR REPLACE TEMP TABLE near_event AS
SELECT resource, time_ns, name AS what FROM event
WHERE time_ns BETWEEN (SELECT min(from_ns) FROM visit) - 600_000_000_000 AND (SELECT max(to_ns) FROM visit)
  AND starts_with(name, 'container.');

-- Only what happened to those that the batch ran in or called, and to others of their names: they may be the same, started again.
-- makes: container_event
-- reads: visit, callee, near_event
-- only with: near_event
CREATE OR REPLACE TEMP TABLE container_event AS
WITH
concerned AS (SELECT container_id FROM visit UNION SELECT container_id FROM callee),
alike AS (
    SELECT DISTINCT attributes['container.name'] AS name, host
    FROM resource
    WHERE container_id IN (FROM concerned) AND attributes['container.name'] IS NOT NULL
)
SELECT
    resource.container_id, resource.attributes['container.name'] AS name, resource.host, time_ns, what
FROM near_event
JOIN resource USING (resource)
LEFT JOIN alike ON alike.name = resource.attributes['container.name'] AND alike.host IS NOT DISTINCT FROM resource.host
WHERE resource.container_id IN (FROM concerned) OR (resource.container_id IS NOT NULL AND alike.name IS NOT NULL);

-- The stretches of each piece, with the pool that its time went to.
-- makes: phase
-- reads: piece, segment, node
-- only with: container_event
CREATE OR REPLACE TEMP TABLE phase AS
WITH cuts AS (
    SELECT piece.*, segment.from_ns AS part_from, segment.to_ns AS part_to,
           node.start_ns + coalesce(accept_wait_ns, pool_wait_ns, 0) AS begun_ns
    FROM piece
    JOIN segment ON segment.request_no = piece.request_no AND segment.span_no = piece.span_no
    JOIN (SELECT span_no, start_ns FROM node) AS node ON node.span_no = piece.span_no
)
SELECT piece_no, 'queued' AS pool, part_from AS from_ns, least(part_to, begun_ns) AS to_ns
FROM cuts
WHERE part_from < begun_ns
UNION ALL
SELECT piece_no, 'off', greatest(part_from, begun_ns), part_to FROM cuts WHERE part_to > begun_ns;

-- When containers were frozen, from pause to unpause.
-- makes: frozen
-- reads: container_event
-- only with: container_event
CREATE OR REPLACE TEMP TABLE frozen AS
SELECT pauses.container_id, pauses.time_ns AS from_ns, min(thaws.time_ns) AS to_ns
FROM container_event AS pauses
LEFT JOIN container_event AS thaws
    ON thaws.container_id = pauses.container_id AND thaws.time_ns >= pauses.time_ns
    AND thaws.what IN ('container.unpause', 'container.die')
WHERE pauses.what = 'container.pause'
GROUP BY ALL;

-- A container dies, and is started again under its id, or under its name on the same machine. Whoever asked it to end (kill) made it deaf already;
-- who lost a process to the memory limit and lives on is dead for who talked to that process.
-- makes: dead
-- reads: container_event, entry, visit
-- only with: container_event
CREATE OR REPLACE TEMP TABLE dead AS
WITH
ends AS (
    SELECT
        died.container_id, any_value(died.name) AS name, any_value(died.host) AS host, died.time_ns,
        coalesce(min(asked.time_ns), died.time_ns) AS deaf_ns,
        -- Engines tell of a want of memory also when they take down a container that somebody asked to end.
        coalesce(min(killed.time_ns) < coalesce(min(asked.time_ns), min(killed.time_ns) + 1), FALSE) AS out_of_memory
    FROM container_event AS died
    LEFT JOIN container_event AS asked
        ON asked.container_id = died.container_id AND asked.what = 'container.kill'
        AND asked.time_ns BETWEEN died.time_ns - 15_000_000_000 AND died.time_ns
        -- of this life, not of the one before
        AND NOT EXISTS (FROM container_event AS began
                        WHERE began.container_id = died.container_id AND began.what = 'container.start'
                          AND began.time_ns BETWEEN asked.time_ns AND died.time_ns)
    LEFT JOIN container_event AS killed
        ON killed.container_id = died.container_id AND killed.what = 'container.oom'
        AND killed.time_ns BETWEEN died.time_ns - 2_000_000_000 AND died.time_ns + 2_000_000_000
    WHERE died.what = 'container.die'
    GROUP BY died.container_id, died.time_ns
    UNION ALL
    SELECT killed.container_id, killed.name, killed.host, killed.time_ns, killed.time_ns, TRUE
    FROM container_event AS killed
    WHERE killed.what = 'container.oom' AND NOT EXISTS (
        FROM container_event AS died
        WHERE died.what = 'container.die' AND died.container_id = killed.container_id
          AND died.time_ns BETWEEN killed.time_ns - 2_000_000_000 AND killed.time_ns + 2_000_000_000)
),
lives AS (
    SELECT ends.*, least(ends.deaf_ns, ends.time_ns) AS from_ns, min(started.time_ns) AS started_ns
    FROM ends
    LEFT JOIN container_event AS started
        ON started.what = 'container.start' AND started.time_ns >= ends.time_ns
        AND (started.container_id = ends.container_id
            OR (started.name = ends.name AND started.host IS NOT DISTINCT FROM ends.host))
    GROUP BY ALL
),
-- Whose name it was before is another container now: name and machine are the newest, as in `containers_of`.
namesakes AS (
    SELECT
        container_id, arg_max(attributes['container.name'], seen_ns) AS name,
        arg_max(host, seen_ns) FILTER (attributes['container.name'] IS NOT NULL) AS host
    FROM resource
    WHERE container_id IN (FROM resource SELECT container_id
                           WHERE container_id IS NOT NULL AND attributes['container.name'] IN (SELECT name FROM lives))
    GROUP BY container_id
),
answers AS (
    SELECT container_id, start_ns FROM entry WHERE container_id IS NOT NULL
    UNION ALL
    SELECT request.container_id, request.start_ns FROM request
    WHERE request.container_id IS NOT NULL
        AND request.start_ns BETWEEN (SELECT min(from_ns) FROM lives) AND (SELECT max(to_ns) FROM visit)
)
SELECT
    lives.container_id,
    lives.name,
    time_ns AS died_ns,
    from_ns,
    started_ns,
    out_of_memory,
    min(answers.start_ns) AS answered_ns
FROM lives
LEFT JOIN namesakes AS again ON again.name = lives.name AND again.host IS NOT DISTINCT FROM lives.host
LEFT JOIN answers
    ON answers.container_id IN (lives.container_id, again.container_id)
    AND answers.start_ns >= coalesce(started_ns, time_ns)
GROUP BY ALL;

-- Who has the address that a call went to, and was alive when it began: names are used again, and by several at a time.
-- makes: living
-- reads: callee, piece, container_event
-- only with: callee, container_event
CREATE OR REPLACE TEMP TABLE living AS
WITH called AS (
    SELECT DISTINCT callee.piece_no, callee.container_id, piece.from_ns FROM callee JOIN piece USING (piece_no)
),
turns AS (
    SELECT piece_no, called.container_id, arg_max(what, time_ns) AS last
    FROM called JOIN container_event ON container_event.container_id = called.container_id AND time_ns <= from_ns
        AND what IN ('container.start', 'container.die')
    GROUP BY ALL
)
SELECT piece_no, container_id FROM turns WHERE last = 'container.start';

-- Time in a call while whoever was called was dead, or not yet ready.
-- makes: dead_call
-- reads: phase, piece, callee, dead, living
-- only with: dead, callee
CREATE OR REPLACE TEMP TABLE dead_call AS
SELECT
    out_of_memory,
    piece_no,
    'off' AS pool,
    'container' AS entity_type,
    arg_max(dead.container_id, dead.died_ns) AS entity_id,
    sum(
        greatest(0, least(phase.to_ns, coalesce(answered_ns, phase.to_ns)) - greatest(phase.from_ns, dead.from_ns))
    )::BIGINT AS lost_ns,
    -- Where it sends no spans, the call itself tells when it was ready: it ended when it was answered.
    sum(
        greatest(
            0, least(phase.to_ns, coalesce(CASE WHEN started_ns <= phase.from_ns THEN phase.from_ns END, phase.to_ns),
                          coalesce(answered_ns, phase.to_ns))
                    - greatest(phase.from_ns, died_ns)))::BIGINT AS low_ns,
    lost_ns AS high_ns,
    format('it called {} while that was dead: {}{}', any_value(dead.name),
           CASE WHEN bool_or(out_of_memory) THEN 'the kernel had killed it for its memory' ELSE 'it had ended' END,
           coalesce(format(', and was started again {:.0f} ms later', min(started_ns - died_ns) / 1e6), '')) AS because
FROM phase
JOIN piece USING (piece_no)
JOIN callee USING (piece_no)
JOIN dead ON dead.container_id = callee.container_id
WHERE is_client(piece.kind) AND phase.pool = 'off'
  -- What never sends spans never answers one: it is not dead for ever, but while it was before it was started again.
  AND (answered_ns IS NOT NULL OR started_ns IS NULL OR phase.from_ns < started_ns)
  AND dead.from_ns < phase.to_ns AND coalesce(answered_ns, phase.to_ns) > phase.from_ns
  AND NOT EXISTS (FROM living WHERE living.piece_no = piece.piece_no AND living.container_id <> dead.container_id)
GROUP BY piece_no, out_of_memory;
