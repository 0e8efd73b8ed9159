-- What cannot be seen from the viewpoints that nobody had before (keep.sql): a cause is blind where one of its needs was not
-- measured in a process that the request spent time in.
INSERT INTO blind_spot BY NAME
WITH
need AS (
    SELECT
        unnest($causes::VARCHAR[]) AS cause,
        unnest($facts::VARCHAR[][]) AS facts,
        unnest($applies::VARCHAR[][][]) AS applies
),
fresh AS (
    SELECT DISTINCT * EXCLUDE (request_no) FROM viewpoint WHERE spot NOT IN (SELECT spot FROM blind_spot)
),
unmet AS (
    SELECT
        spot, cause, fresh.service, why, foreign_readings, host, agent_reads,
        -- What only a container has is not missing where there is none, if anything else would do.
        CASE WHEN outside AND len(list_filter(facts, lambda one: one NOT LIKE 'container.%')) > 0
             THEN list_filter(facts, lambda one: one NOT LIKE 'container.%') ELSE facts END AS facts
    FROM fresh
    JOIN
        need
        ON len(list_filter(need.applies, lambda words: NOT list_has_any(words, nature))) = 0
            AND NOT list_has_any(known, facts)
)
SELECT DISTINCT
    spot, cause, service, facts, CASE WHEN facts = ['layerline.account'] THEN why END AS why, foreign_readings, host,
    agent_reads
FROM unmet
UNION ALL BY NAME
-- From where everything is seen: it need not be looked for again.
SELECT spot FROM fresh ANTI JOIN unmet USING (spot);
