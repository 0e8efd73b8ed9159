-- Who else was at work on the machine while somebody waited there: who ran, and who used its disks.

-- What others ran during each visit that may have waited for a CPU, itself or behind who held its lock.
-- makes: others_ran
-- reads: visit, behind_holder, seen
CREATE OR REPLACE TEMP TABLE others_ran AS
WITH
busy AS (
    SELECT request_no, visit_no, sum(estimate) AS busy_ns, sum(high) AS busy_high_ns
    FROM seen
    WHERE piece_no IS NULL AND signal = 'system.cpu.time' AND covered_ns >= 0.9 * stretch_ns
      AND cpu_mode NOT IN ('idle', 'iowait', 'steal')
    GROUP BY ALL
),
-- A machine of many CPUs is busy elsewhere too. Others cannot have run more on the CPUs that this process may use than
-- its container left free there.
room AS (
    SELECT
        request_no, visit_no, host, cpu_ns, usage_ns, greatest(coalesce(usage_ns, 0), cpu_ns) AS used_ns,
        -- The container's threads that wanted to run, this one among them, were never more than its CPUs, in the mean.
        coalesce(runnable_ns - cpu_ns - wait_ns <= 1.1 * (cpus - 1) * window_ns::DOUBLE, FALSE) AS has_enough,
        CASE
            WHEN cpus IS NOT NULL THEN greatest(0, cpus * window_ns::DOUBLE - greatest(coalesce(usage_ns, 0), cpu_ns))
        END
            AS room_ns
    FROM visit
    WHERE wait_ns > 0 OR (request_no, visit_no) IN (SELECT (request_no, visit_no) FROM behind_holder)
)
SELECT
    request_no, visit_no, host, cpu_ns, usage_ns, busy_ns, has_enough,
    least_or_null(not_below_zero(busy_ns - used_ns), coalesce(room_ns, busy_ns))           AS others_ns,
    least_or_null(not_below_zero(busy_high_ns - used_ns), coalesce(room_ns, busy_high_ns)) AS others_high_ns
FROM room LEFT JOIN busy USING (request_no, visit_no);

-- Their names, and of each visit with a piece that may have waited for a disk, the containers that moved blocks meanwhile. A
-- claim names neighbours by their number here: a list of all containers of a machine is too long to be handed from step to step.
-- Lists of those that ran have positive numbers, of those that moved blocks negative ones, and those are of any request.
-- makes: neighbours
-- reads: others_ran, ran, piece, disk_waiter, stretch, reading_second, known_nested, known_enclosed
CREATE OR REPLACE TEMP TABLE neighbours AS
WITH
-- Named by what they ran more than before; where nobody did, by what they ran.
sums AS (
    SELECT
        visit_no, sum(ran_ns) AS named_ns, sum(more_ns) AS more_ns, sum(more_ns) >= 0.1 * sum(ran_ns) AS is_unusual
    FROM ran GROUP BY visit_no
),
named AS (
    SELECT
        ran.visit_no, any_value(named_ns) AS named_ns, any_value(sums.more_ns) AS more_ns,
        in_order(list({
            'place_ns': -ran_ns, 'entity_id': entity_id, 'entity_type': entity_type,
            'ran_ns': CASE WHEN is_unusual THEN ran.more_ns ELSE ran_ns END
        }) FILTER (NOT is_unusual OR ran.more_ns > 0)) AS names
    FROM ran JOIN sums ON sums.visit_no = ran.visit_no
    GROUP BY ran.visit_no
)
SELECT
    row_number() OVER () AS neighbours_no, request_no, others_ran.visit_no, 'cpu' AS shared,
    -- What ran and has no name that we know of were processes of the machine itself; what they ran before is not known,
    -- and taken to have grown like the rest.
    CASE
        WHEN others_ns - coalesce(named_ns, 0) > 0.01 * others_ns
        THEN list_append(coalesce(names, []), {
            'entity_type': 'host', 'entity_id': host,
            'ran_ns': ((others_ns - coalesce(named_ns, 0))
                       * CASE WHEN more_ns >= 0.1 * named_ns THEN more_ns / named_ns ELSE 1 END)::BIGINT
        })
        ELSE names
    END AS neighbours
FROM others_ran LEFT JOIN named ON named.visit_no = others_ran.visit_no
UNION ALL
-- only with: disk_waiter, reading_second
FROM (
    WITH
    waited AS (
        SELECT DISTINCT
            visit_no, container_id, host, from_ns, to_ns,
            unnest(seconds_read(from_ns, to_ns, $since_ns, $until_ns)) AS second
        FROM stretch
        WHERE piece_no IS NULL AND visit_no IN (SELECT visit_no FROM piece SEMI JOIN disk_waiter USING (piece_no))
    ),
    moved AS (
        SELECT
            dense_rank() OVER (ORDER BY entity_id) AS mover_no, entity_id, host, second, from_ns, to_ns, rise
        FROM reading_second
        WHERE signal = 'container.disk.io' AND rise > 0 AND entity_id IS NOT NULL
    ),
    mover AS (SELECT DISTINCT ON (mover_no) mover_no, entity_id FROM moved),
    sums_of_movers AS (
        SELECT
            visit_no, mover_no,
            sum(rise * (overlap_ns(moved.from_ns, moved.to_ns, waited.from_ns, waited.to_ns)
                        / (moved.to_ns - moved.from_ns)))::BIGINT AS bytes
        FROM waited
        JOIN moved
            ON moved.host = waited.host AND moved.second = waited.second
            AND waited.second = first_second_of_both(moved.from_ns, waited.from_ns)
            AND moved.from_ns < waited.to_ns AND moved.to_ns > waited.from_ns
        ANTI JOIN known_enclosed AS pair
            ON pair.container_id = waited.container_id AND pair.other_id = moved.entity_id
        WHERE moved.entity_id IS DISTINCT FROM waited.container_id
        GROUP BY visit_no, mover_no HAVING bytes > 0
    ),
    bytes_moved AS (
        SELECT visit_no, entity_id, bytes
        FROM sums_of_movers JOIN mover ON mover.mover_no = sums_of_movers.mover_no
    ),
    -- Of a container with others inside of it, what those did not move.
    inner_bytes_moved AS (
        SELECT visit_no, outer_id, sum(bytes) AS inner_bytes
        FROM bytes_moved JOIN known_nested ON known_nested.container_id = bytes_moved.entity_id
        GROUP BY ALL
    ),
    own_bytes_moved AS (
        SELECT bytes_moved.visit_no, entity_id, (bytes - coalesce(inner_bytes, 0))::BIGINT AS own_moved
        FROM bytes_moved
        LEFT JOIN inner_bytes_moved AS inside
            ON inside.visit_no = bytes_moved.visit_no AND outer_id = entity_id
    )
    SELECT
        -row_number() OVER (), NULL, visit_no, 'disk',
        in_order(list({
            'place_ns': -own_moved, 'entity_id': entity_id, 'entity_type': 'container', 'ran_ns': own_moved
        }))
    FROM own_bytes_moved WHERE own_moved > 0
    GROUP BY visit_no
);
