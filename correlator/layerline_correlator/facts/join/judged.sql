-- Which container and machine every span came from: how that is known, how sure it is, and why not surer.
--
-- A process and a container's description that share a handle (handles.py) are a candidate. A candidate is rejected, with
-- its reason, where it cannot be: a pod's sandbox, on another machine, not alive at that moment, one of several. A sender
-- that nobody describes is believed what it says of itself, less so where somebody reads all containers of its machine.

-- makes: sender
-- reads: doubtful_sighting, called_at
-- only with: doubtful_sighting
CREATE OR REPLACE TEMP TABLE sender AS
SELECT
    resource.resource, service, instance, container_id AS said_id, host, host_by, in_container, cpus, handles,
    attributes['container.id'] AS said,
    address, first_ns, last_ns
FROM resource
JOIN (SELECT resource, min(at_ns) AS first_ns, max(at_ns) AS last_ns FROM doubtful_sighting GROUP BY resource) AS asked
    ON asked.resource = resource.resource
LEFT JOIN called_at ON called_at.resource = resource.resource;

-- makes: asks
-- reads: sender
-- only with: sender
CREATE OR REPLACE TEMP TABLE asks AS
SELECT resource, said_id, handle.* FROM (SELECT resource, said_id, unnest(handles) AS handle FROM sender)
UNION
SELECT resource, said_id, 'address', address, 'network.local.address' FROM sender WHERE address IS NOT NULL;

-- Who is described under a handle that somebody asks for.
-- makes: known
-- reads: asks
-- only with: asks
CREATE OR REPLACE TEMP TABLE known AS
WITH described AS (
    SELECT resource, container_id, host, host_by, sandbox, seen_ns, unnest(handles) AS handle
    FROM resource WHERE service IS NULL
),
met AS (
    SELECT asks.resource, asks.key, asks.value, asks.attribute, described.* EXCLUDE (resource, handle),
           described.resource AS description
    FROM asks JOIN described ON described.handle."key" = asks.key AND described.handle."value" = asks.value
    -- An id that was cut short on one side must be the beginning of the other.
    WHERE asks.key <> 'id'
        OR starts_with(described.container_id, said_id)
        OR starts_with(said_id, described.container_id)
),
-- Who names its pod's sandbox is a container of that pod.
of_pod AS (
    SELECT met.resource, pod."key" AS key, pod."value" AS value, pod.attribute
    FROM met
    JOIN (SELECT resource, unnest(handles) AS pod FROM resource) AS sandbox ON sandbox.resource = met.description
    WHERE met.sandbox AND met.key = 'id' AND pod."key" = 'pod'
)
FROM met
UNION
SELECT
    of_pod.resource,
    of_pod.key,
    of_pod.value,
    of_pod.attribute,
    described.* EXCLUDE (resource, handle),
    described.resource
FROM of_pod JOIN described ON described.handle."key" = of_pod.key AND described.handle."value" = of_pod.value;

-- The machine of a sender: its boot id, which inside a container is the machine's too, else a machine that is known by
-- the same id or name. After a reboot the newest; a name that several machines have tells nothing.
-- makes: machine
-- reads: known
-- only with: known
CREATE OR REPLACE TEMP TABLE machine AS
WITH found AS (
    SELECT resource, host,
           arg_min(attribute, key) AS method,  -- "machine id" before "machine name"
           min(host_rank(host_by)) AS host_rank, max(seen_ns) AS seen_ns, count(DISTINCT key) AS keys, min(key) AS key
    FROM known WHERE key IN ('machine id', 'machine name') AND host IS NOT NULL GROUP BY resource, host
),
named AS (
    SELECT *, count(*) FILTER (key = 'machine name') OVER each AS namesakes,
           first(key) OVER (each ORDER BY keys DESC, key, host_rank, seen_ns DESC) = 'machine id' AS by_id
    FROM found WINDOW each AS (PARTITION BY resource, host_rank)
)
SELECT resource, host, host_rank, method FROM named
WHERE by_id OR namesakes = 1
QUALIFY row_number() OVER (PARTITION BY resource ORDER BY host_rank, keys DESC, key, seen_ns DESC) = 1;

-- makes: placed
-- reads: sender, machine
-- only with: sender
CREATE OR REPLACE TEMP TABLE placed AS
SELECT
    sender.*,
    CASE WHEN host_by = 'layerline.boot_id' THEN sender.host ELSE machine.host END              AS machine,
    CASE WHEN host_by = 'layerline.boot_id' THEN 'layerline.boot_id' ELSE machine.method END    AS machine_by,
    CASE WHEN host_by = 'layerline.boot_id' THEN 1 ELSE machine.host_rank END                   AS machine_rank
FROM sender LEFT JOIN machine ON machine.resource = sender.resource;

-- One row per sender, kind of handle, container and machine; a container that several describe counts once.
-- makes: candidate
-- reads: known
-- only with: known
CREATE OR REPLACE TEMP TABLE candidate AS
WITH merged AS (
    SELECT
        known.resource, known.key, any_value(known.attribute) AS method, known.container_id, known.host,
        min(host_rank(known.host_by)) AS host_rank, bool_or(known.sandbox) AS sandbox,
        arg_max(described.attributes['container.name'], known.seen_ns) AS name
    FROM known JOIN resource AS described ON described.resource = known.description
    WHERE known.container_id IS NOT NULL AND known.key NOT LIKE 'machine%'
    GROUP BY known.resource, known.key, known.container_id, known.host
)
SELECT * FROM merged
QUALIFY host_rank = min(host_rank) OVER (PARTITION BY resource, key, container_id);

-- When they began and ended, as their engine told.
-- makes: turn
-- reads: candidate
-- only with: candidate
CREATE OR REPLACE TEMP TABLE turn AS
SELECT DISTINCT described.container_id, described.host, event.time_ns, event.name = 'container.start' AS begins
FROM event
JOIN
    (SELECT resource, container_id, host FROM resource WHERE service IS NULL) AS described
ON described.resource = event.resource
WHERE event.name IN ('container.start', 'container.die')
  AND described.container_id IN (SELECT container_id FROM candidate);

-- Whose readings are wanted: of candidates by anything but an id (were they alive?), and of the machines of senders
-- whose id nobody knows (would it be known?).
-- makes: extent
-- reads: candidate, placed, sender
-- only with: sender
CREATE OR REPLACE TEMP TABLE extent AS
WITH
wanted AS (
    SELECT series.series, entity_id AS container_id, series.host FROM series
    WHERE entity_type = 'container' AND kind IN ('cumulative', 'delta', 'gauge')
      AND (entity_id IN (SELECT container_id FROM candidate WHERE key <> 'id')
           OR (signal = 'container.cpu.time' AND series.host IN (
               SELECT machine
               FROM placed
               ANTI JOIN candidate ON candidate.resource = placed.resource AND candidate.key = 'id'
               WHERE said_id IS NOT NULL)))
)
SELECT wanted.container_id, wanted.host, min(time_ns) AS first_ns, max(time_ns) AS last_ns
FROM point JOIN wanted ON wanted.series = point.series
WHERE time_ns BETWEEN (SELECT min(first_ns) FROM sender
    )
    - 130_000_000_000 AND (SELECT max(last_ns) FROM sender
    )
    + 130_000_000_000
GROUP BY wanted.container_id, wanted.host;

-- Each candidate at each moment: how far outside of its life, by events (`outside_ns`) and by readings (`unread_ns`).
-- makes: fit
-- reads: doubtful_sighting, candidate, placed, turn, extent
-- only with: candidate
CREATE OR REPLACE TEMP TABLE fit AS
WITH
-- How much each kind of handle is worth, in the order in which they are believed.
worth AS (
    FROM (VALUES
        ('id', 1, 1.0), ('inode', 2, 0.95), ('pod container', 3, 0.95), ('name', 4, 0.8), ('host name', 5, 0.8),
        ('pod', 6, 0.8), ('address', 7, 0.6)
    ) AS worth(key, rank, base)
),
asked AS (
    SELECT doubtful_sighting.at_ns, candidate.*, rank, base, placed.machine, placed.machine_rank, placed.said_id,
           coalesce(
               candidate.name || ' (' || left(candidate.container_id, 12) || ')', left(candidate.container_id, 12)
           ) AS who
    FROM doubtful_sighting
    JOIN candidate ON candidate.resource = doubtful_sighting.resource
    JOIN placed ON placed.resource = doubtful_sighting.resource
    JOIN worth ON worth.key = candidate.key
),
turned AS (
    SELECT
        asked.*,
        before.begins AS began,
        at_ns - before.time_ns AS since_ns,
        after.begins,
        after.time_ns - at_ns AS until_ns
    FROM asked
    ASOF LEFT JOIN turn AS before
        ON before.container_id = asked.container_id AND before.host = asked.host AND before.time_ns <= asked.at_ns
    ASOF LEFT JOIN turn AS after
        ON after.container_id = asked.container_id AND after.host = asked.host AND after.time_ns > asked.at_ns
),
judged AS (
    SELECT
        turned.*,
        CASE WHEN began OR (began IS NULL AND NOT begins) THEN 0
             WHEN NOT began AND begins THEN least(since_ns, until_ns)
             WHEN NOT began THEN since_ns
             WHEN begins THEN until_ns END AS outside_ns,
        CASE WHEN extent.first_ns IS NOT NULL THEN greatest(0, extent.first_ns - at_ns, at_ns - extent.last_ns) END
            AS unread_ns,
        machine <> turned.host AND host_rank = machine_rank AS elsewhere
    FROM turned
    LEFT JOIN extent ON extent.container_id = turned.container_id AND extent.host IS NOT DISTINCT FROM turned.host
)
SELECT
    *,
    CASE
        WHEN sandbox   THEN who || ' is the sandbox (pause) container of its pod'
        WHEN elsewhere THEN who || ' is on another machine'
        -- A process knows its own whole id: where it is dead the id is doubted, not rejected (below).
        WHEN outside_ns > 2_000_000_000 AND NOT (key = 'id' AND said_id = container_id)
            THEN who || CASE WHEN NOT coalesce(began, TRUE) AND since_ns = outside_ns
                             THEN format(' had ended {} before', seconds_text(since_ns))
                             ELSE format(' was started only {} later', seconds_text(until_ns)) END
    END AS wrong
FROM judged;

-- Of several that one handle fits, the one that was alive, else the nearest; two that fit equally well are none.
-- makes: pick
-- reads: fit
-- only with: fit
CREATE OR REPLACE TEMP TABLE pick AS
WITH best AS (
    FROM fit WHERE wrong IS NULL
    QUALIFY rank() OVER (PARTITION BY resource, at_ns, key
                         ORDER BY coalesce(outside_ns, 0), unread_ns NULLS LAST) = 1
),
rated AS (
    SELECT *, count(*) OVER each AS fits,
           min(who) OVER each AS one, max(who) OVER each AS other,
           min(container_id) OVER each = max(container_id) OVER each AS same
    FROM best WINDOW each AS (PARTITION BY resource, at_ns, key)
)
SELECT
    resource, at_ns, key, rank, method, container_id, host, fits, who,
    base * CASE WHEN key = 'id' AND outside_ns > 2_000_000_000 THEN 0.5                     -- dead, as far as we know
                WHEN outside_ns > 0 THEN 0.8                                                -- the nearest
                WHEN key <> 'id' AND outside_ns IS NULL AND coalesce(unread_ns, 9e18) > 60_000_000_000 THEN 0.5
                WHEN key = 'id' AND said_id <> container_id THEN 0.95                       -- cut short
                ELSE 1 END AS confidence,
    CASE WHEN fits > 1 AND same THEN format('{} is on {} machines, and nothing tells which', one, fits)
         WHEN fits > 1 THEN format('{} fits {} containers, {} and {} among them', method, fits, one, other)
         WHEN
             key = 'id' AND outside_ns > 2_000_000_000
             THEN who || CASE WHEN NOT coalesce(began, TRUE) THEN ' had ended before' ELSE ' was started only later' END
         WHEN outside_ns > 0 THEN format('{} was the nearest in time', who)
         WHEN key <> 'id' AND outside_ns IS NULL AND coalesce(unread_ns, 9e18) > 60_000_000_000
             THEN format('nothing shows that {} ran then', who) END AS doubt
FROM rated
QUALIFY row_number() OVER (PARTITION BY resource, at_ns, key ORDER BY container_id, host) = 1;

-- makes: judged_tie
-- reads: doubtful_sighting, placed, asks, extent, candidate, fit, pick
-- only with: doubtful_sighting
CREATE OR REPLACE TEMP TABLE judged_tie AS
WITH
-- What a sender says of itself: the weakest is that nobody knows the id though somebody looks.
own AS (
    SELECT resource, said_id AS container_id, machine, said_id IS NOT NULL AS speaks,
           machine IN (SELECT host FROM extent)
           OR resource IN (SELECT resource FROM candidate WHERE key = 'id') AS watched,
           resource IN (SELECT resource FROM fit WHERE key = 'id' AND sandbox) AS is_sandbox,
           resource IN (SELECT resource FROM pick WHERE key = 'id' AND fits > 1) AS ambiguous
    FROM placed
),
claims AS (
    SELECT resource, at_ns, rank, method, container_id, host, confidence, doubt FROM pick WHERE fits = 1
    UNION ALL
    SELECT
        doubtful_sighting.resource,
        at_ns,
        8,
        'container.id',
        container_id,
        NULL,
        CASE WHEN watched THEN 0.5 ELSE 0.9 END,
           CASE
               WHEN
                   watched
                   THEN format(
                       'nobody knows container {} on its machine, where containers are read', left(container_id, 12)
                   )
           END
    FROM doubtful_sighting JOIN own ON own.resource = doubtful_sighting.resource
    WHERE speaks AND NOT is_sandbox AND NOT ambiguous
),
chosen AS (
    SELECT
        resource, at_ns, first({'method': method, 'container_id': container_id, 'host': host, 'confidence': confidence,
                                   'doubt': doubt, 'rank': rank} ORDER BY confidence DESC, rank) AS it
    FROM claims GROUP BY resource, at_ns
),
-- Why better handles than the one that was taken did not tell.
whys AS (
    SELECT resource, at_ns, rank, wrong AS why, method FROM fit WHERE wrong IS NOT NULL
    UNION
    SELECT resource, at_ns, rank, doubt, method FROM pick WHERE fits > 1
),
rejected AS (
    SELECT whys.resource, whys.at_ns, string_agg(DISTINCT why, '; ' ORDER BY why) AS why
    FROM whys LEFT JOIN chosen ON chosen.resource = whys.resource AND chosen.at_ns = whys.at_ns
    WHERE chosen.it IS NULL OR whys.rank <= chosen.it.rank GROUP BY ALL
),
unheard AS (
    SELECT
        resource,
        string_agg(DISTINCT attribute || ' ' || left(value, 64), ', ' ORDER BY attribute || ' ' || left(value, 64))
            AS asked
    FROM asks WHERE key NOT LIKE 'machine%' GROUP BY resource
)
SELECT
    doubtful_sighting.resource, doubtful_sighting.at_ns, service, instance, cpus,
    it.container_id,
    coalesce(it.host, machine, placed.host) AS host,
    coalesce(it.container_id IS NOT NULL OR NULL, in_container) AS in_container,
    it.method,
    round(CASE WHEN it.container_id IS NOT NULL THEN it.confidence WHEN NOT in_container THEN 1 ELSE 0 END::DOUBLE, 3)
        AS confidence,
    CASE
        WHEN it.container_id IS NULL AND NOT in_container THEN NULL
        ELSE nullif(concat_ws('; ',
            CASE
                WHEN
                    said_id IS NULL AND said IS NOT NULL
                    THEN format('container.id “{}” is not the id of a container', left(said, 40))
            END,
            CASE WHEN NOT starts_with(it.container_id, said_id)
                 THEN format('container {}, which it names, is known to nobody', left(said_id, 12)) END,
            it.doubt, rejected.why,
            CASE WHEN it.container_id IS NULL AND rejected.why IS NULL THEN
                CASE WHEN
                    unheard.asked IS NULL
                    THEN 'its resource has nothing that tells a container (container.id, container.name, host.name …)'
                     ELSE 'no container is known by ' || unheard.asked END END), '')
    END AS reason,
    CASE WHEN machine IS NOT NULL THEN machine_by WHEN it.host IS NOT NULL THEN it.method ELSE host_by END
        AS host_method
FROM doubtful_sighting
JOIN placed ON placed.resource = doubtful_sighting.resource
LEFT JOIN chosen ON chosen.resource = doubtful_sighting.resource AND chosen.at_ns = doubtful_sighting.at_ns
LEFT JOIN rejected ON rejected.resource = doubtful_sighting.resource AND rejected.at_ns = doubtful_sighting.at_ns
LEFT JOIN unheard ON unheard.resource = doubtful_sighting.resource;

-- How every sighting is tied: container_id, host, in_container, method (the attribute that names the container), confidence (0
-- to 1), reason (null where nothing is in doubt), host_method (the attribute that names the machine).
-- makes: tie
-- reads: plain_tie, judged_tie
CREATE OR REPLACE TEMP TABLE tie AS
FROM plain_tie
UNION ALL BY NAME
-- only with: judged_tie
FROM judged_tie;
