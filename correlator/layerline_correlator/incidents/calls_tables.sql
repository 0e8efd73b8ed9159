-- What a watch keeps on its cursor: calls, row by row (calls_seen.sql), and minutes of them (verdict/edges.sql).
CREATE OR REPLACE TEMP TABLE seen_call (
    caller            VARCHAR,
    callee_type       VARCHAR,
    callee            VARCHAR,
    operation         VARCHAR,
    start_ns          BIGINT,
    duration_ns       BIGINT,
    gap_ns            BIGINT,
    failed            BOOLEAN,
    trace_id          VARCHAR,
    span_id           VARCHAR,             -- of the request that it was made for; null where there is none
    request_operation VARCHAR,
    request_ns        BIGINT,
    request_end_ns    BIGINT
);

CREATE OR REPLACE TEMP TABLE call_past (
    caller      VARCHAR,
    callee_type VARCHAR,
    callee      VARCHAR,
    operation   VARCHAR,
    minute      BIGINT,
    calls       BIGINT,
    errors      BIGINT,
    durations   MAP(SMALLINT, UBIGINT),
    gaps        MAP(SMALLINT, UBIGINT)
);
