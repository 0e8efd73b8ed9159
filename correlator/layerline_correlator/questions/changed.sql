-- What changed between the time before and the window, by whom: figures for verdict/changed.py.
--
-- In: what changed_losses.sql makes; called_under(entity_id, service): further names under which services were called;
--     $middle_block (with it the second half of the time before begins).

-- The losses of both kinds, and to whom they are added up: a service where its containers, processes and the names that
-- it is called under are known, else the entity itself.
-- makes: compared_loss
-- reads: request_loss, minute_loss, compared_home, compared_callee, called_under
CREATE OR REPLACE TEMP TABLE compared_loss AS
WITH
loss AS (
    SELECT service, operation, is_now, block, trace_id, span_id, start_ns, weight, cause, at_service, entity_type,
           entity_id, lost_ns, low_ns, high_ns
    FROM request_loss
    UNION ALL
    SELECT service, operation, is_now, block, NULL, NULL, NULL, 1, cause, at_service, entity_type, entity_id, lost_ns,
           low_ns, high_ns
    FROM minute_loss
),
named AS (
    SELECT
        loss.*,
        CASE entity_type
            WHEN 'container' THEN home.service
            WHEN 'process' THEN coalesce(at_service, loss.service)
            WHEN 'service' THEN coalesce(callee.service, called_under.service)
        END AS owner
    FROM loss
    LEFT JOIN compared_home AS home ON home.container_id = loss.entity_id AND entity_type = 'container'
    LEFT JOIN compared_callee AS callee ON callee.entity_id = loss.entity_id AND entity_type = 'service'
    LEFT JOIN called_under ON called_under.entity_id = loss.entity_id AND entity_type = 'service'
)
SELECT
    * EXCLUDE (owner),
    CASE WHEN owner IS NOT NULL THEN 'owner' ELSE entity_type END AS who_type, coalesce(owner, entity_id) AS who
FROM named;

-- makes: compared_who
-- reads: compared_loss
CREATE OR REPLACE TEMP TABLE compared_who AS
SELECT service, operation, is_now, block, who_type, who, sum(lost_ns * weight)::DOUBLE AS lost_ns
FROM compared_loss GROUP BY ALL
UNION ALL
SELECT service, operation, is_now, block, 'all', '', sum(lost_ns * weight)::DOUBLE FROM compared_loss GROUP BY ALL;

-- How much chance moves what is lost in a block before the window: by how much neighbours among the blocks differ. Where
-- something began in that time and lasted, only two neighbours differ more by it, while all blocks differ from the mean.
-- makes: usual_spread
-- reads: compared_who, compared_block
CREATE OR REPLACE TEMP TABLE usual_spread AS
WITH
before AS (FROM compared_block WHERE NOT is_now),
who AS (SELECT DISTINCT service, operation, who_type, who FROM compared_who),
filled AS (
    SELECT
        who.*, block, before.weight, coalesce(lost_ns, 0) AS lost_ns,
        sum(coalesce(lost_ns, 0)) OVER each / sum(before.weight) OVER each AS mean_ns
    FROM who JOIN before USING (service, operation)
    LEFT JOIN (FROM compared_who WHERE NOT is_now) AS lost USING (service, operation, who_type, who, block)
    WINDOW each AS (PARTITION BY service, operation, who_type, who)
),
stepped AS (
    SELECT *, lost_ns - mean_ns * weight - lag(lost_ns - mean_ns * weight) OVER each AS step_ns
    FROM filled WINDOW each AS (PARTITION BY service, operation, who_type, who ORDER BY block)
)
SELECT
    service, operation, who_type, who, count(*) AS blocks,
    -- Of one request: a block is a sum of as many as it stands for, and a step the difference of two.
    avg(step_ns * step_ns) / 2 / avg(weight) AS variance,
    sum(lost_ns) FILTER (block < $middle_block) AS first_half_ns,
    sum(weight) FILTER (block < $middle_block) AS first_half,
    sum(lost_ns) FILTER (block >= $middle_block) AS second_half_ns,
    sum(weight) FILTER (block >= $middle_block) AS second_half
FROM stepped GROUP BY ALL;

-- What each request lost to whom.
-- makes: request_who
-- reads: compared_loss
CREATE OR REPLACE TEMP TABLE request_who AS
SELECT service, operation, is_now, who_type, who, trace_id, span_id, start_ns, any_value(weight) AS weight,
       sum(lost_ns)::DOUBLE AS lost_ns
FROM compared_loss WHERE trace_id IS NOT NULL GROUP BY ALL
UNION ALL
SELECT service, operation, is_now, 'all', '', trace_id, span_id, start_ns, any_value(weight), sum(lost_ns)::DOUBLE
FROM compared_loss WHERE trace_id IS NOT NULL GROUP BY ALL;

-- The requests of the window that lost most to each.
-- makes: hardest_hit
-- reads: request_who
CREATE OR REPLACE TEMP TABLE hardest_hit AS
SELECT *, row_number() OVER each AS place
FROM request_who WHERE is_now
WINDOW each AS (PARTITION BY service, operation, who_type, who ORDER BY lost_ns DESC, start_ns DESC)
QUALIFY place <= 5;

-- The three stretches of ten seconds in which most was lost to each: a single pause holds up whatever is under way.
-- makes: hardest_time
-- reads: request_who
CREATE OR REPLACE TEMP TABLE hardest_time AS
WITH moment AS (
    SELECT service, operation, who_type, who, sum(lost_ns * weight) AS lost_ns, sum(weight) AS weight
    FROM request_who WHERE is_now
    GROUP BY service, operation, who_type, who, start_ns // 10_000_000_000
)
SELECT
    service, operation, who_type, who, list_sum(list(lost_ns ORDER BY lost_ns DESC)[:3]) AS hardest_ns,
    list_sum(list(weight ORDER BY lost_ns DESC)[:3]) AS hardest
FROM moment GROUP BY ALL;

-- makes: changed_who
-- reads: compared_who, compared_block, usual_spread, request_who, hardest_hit, hardest_time
CREATE OR REPLACE TEMP TABLE changed_who AS
WITH
summed AS (
    SELECT service, operation, who_type, who, coalesce(sum(lost_ns) FILTER (is_now), 0) AS now_ns,
           coalesce(sum(lost_ns) FILTER (NOT is_now), 0) AS before_ns
    FROM compared_who GROUP BY ALL
),
squared AS (
    SELECT service, operation, who_type, who, sum(weight * lost_ns * lost_ns) AS squares
    FROM request_who WHERE NOT is_now GROUP BY ALL
),
number AS (
    SELECT service, operation, coalesce(sum(weight) FILTER (is_now), 0) AS all_requests FROM compared_block GROUP BY ALL
),
hit AS (
    SELECT service, operation, who_type, who, list(trace_id ORDER BY place) AS traces,
           list(span_id ORDER BY place) AS spans, sum(lost_ns * weight) FILTER (place <= 3) AS hit_ns,
           sum(weight) FILTER (place <= 3) AS hit
    FROM hardest_hit GROUP BY ALL
)
SELECT
    service, operation, who_type, who, now_ns, before_ns, blocks, variance, squares, first_half_ns, first_half,
    second_half_ns, second_half,
    -- Where these stretches have more than a third of all requests, the three requests that lost most are meant.
    coalesce(CASE WHEN hardest > all_requests / 3 THEN hit_ns ELSE hardest_ns END, 0) AS hardest_ns,
    coalesce(CASE WHEN hardest > all_requests / 3 THEN hit ELSE hardest END, 0) AS hardest,
    coalesce(traces, []) AS traces, coalesce(spans, []) AS spans
FROM summed
JOIN number USING (service, operation)
LEFT JOIN usual_spread USING (service, operation, who_type, who)
LEFT JOIN squared USING (service, operation, who_type, who)
LEFT JOIN hit USING (service, operation, who_type, who)
LEFT JOIN hardest_time USING (service, operation, who_type, who);

-- The same split again by cause and entity.
-- makes: changed_cause
-- reads: compared_loss
CREATE OR REPLACE TEMP TABLE changed_cause AS
SELECT
    service, operation, who_type, who, cause, entity_type, entity_id,
    coalesce(sum(lost_ns * weight) FILTER (is_now), 0)::DOUBLE AS now_ns,
    coalesce(sum(low_ns * weight) FILTER (is_now), 0)::DOUBLE AS low_ns,
    coalesce(sum(lost_ns * weight) FILTER (NOT is_now), 0)::DOUBLE AS before_ns,
    coalesce(sum(high_ns * weight) FILTER (NOT is_now), 0)::DOUBLE AS before_high_ns
FROM compared_loss GROUP BY ALL;
