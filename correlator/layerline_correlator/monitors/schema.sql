-- Monitors, their alerts, and what is to be told. Times are nanoseconds since 1970, UTC; 0 is never.

CREATE TABLE IF NOT EXISTS monitor (
    monitor         VARCHAR,
    name            VARCHAR,
    source          VARCHAR,              -- whose question it is: query | slo | incidents
    question        VARCHAR,
    every_ns        BIGINT,
    for_ns          BIGINT,
    targets         VARCHAR,              -- JSON: [{kind, url}]
    silent_until_ns BIGINT,
    created_ns      BIGINT,
    evaluated_ns    BIGINT,
    problem         VARCHAR               -- why the last evaluation failed
);

-- Of one monitor and one entity at most one is not resolved.
CREATE TABLE IF NOT EXISTS alert (
    alert       VARCHAR,
    monitor     VARCHAR,
    entity_type VARCHAR,
    entity_id   VARCHAR,
    entity_name VARCHAR,
    state       VARCHAR,                  -- pending | firing | resolved
    since_ns    BIGINT,
    held_ns     BIGINT,                   -- the last evaluation at which it held
    fired_ns    BIGINT,
    resolved_ns BIGINT,
    figures     VARCHAR,                  -- JSON
    told        VARCHAR,                  -- the last state that was told
    told_ns     BIGINT
);

-- What is to be told to whom, until it was heard; what was, for the history.
CREATE TABLE IF NOT EXISTS notice (
    notice     VARCHAR,
    alert      VARCHAR,
    url        VARCHAR,
    told       VARCHAR,                   -- JSON: monitor, alert and target as they were
    created_ns BIGINT,
    tries      BIGINT,
    next_ns    BIGINT,                    -- when it is to be tried; null when it is over
    heard_ns   BIGINT,                    -- when it was heard; null when it was given up
    problem    VARCHAR
);
