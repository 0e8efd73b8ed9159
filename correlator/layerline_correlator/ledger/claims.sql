-- What the causes claim, kept within what is left of each piece; see ledger.py, which runs one cause after another.
CREATE OR REPLACE TEMP TABLE claim (
    cause       VARCHAR,
    piece_no    BIGINT,
    pool        VARCHAR,
    entity_type VARCHAR,
    entity_id   VARCHAR,
    lost_ns     BIGINT,
    low_ns      BIGINT,
    high_ns     BIGINT,
    inferred    BOOLEAN DEFAULT false,
    neighbours  STRUCT(entity_type VARCHAR, entity_id VARCHAR, ran_ns BIGINT)[],
    because     VARCHAR,
    place       VARCHAR
);
CREATE OR REPLACE TEMP TABLE evidence AS FROM claim;
CREATE OR REPLACE TEMP TABLE need (cause VARCHAR, number INTEGER, fact VARCHAR, applies VARCHAR);
