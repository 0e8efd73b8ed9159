-- What a cause may say of a piece, with the types of each column; rounds.py adds what the causes of a round select.
SELECT
    NULL::VARCHAR AS cause, NULL::BIGINT AS turn, NULL::BIGINT AS piece_no, NULL::VARCHAR AS pool,
    NULL::VARCHAR AS entity_type, NULL::VARCHAR AS entity_id,
    NULL::BIGINT AS lost_ns, NULL::BIGINT AS low_ns, NULL::BIGINT AS high_ns, NULL::BOOLEAN AS inferred,
    NULL::BIGINT AS neighbours_no,
    NULL::VARCHAR AS because, NULL::VARCHAR AS place
WHERE FALSE
