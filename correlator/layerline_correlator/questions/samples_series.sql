-- What is read, and of whom: the lines of these signals, as `lines_of` has them.
--
-- In: $signals. Out: line, signal, entity_type, entity_id, container, image, host, attributes.
SELECT DISTINCT ON (line)
    line, signal, entity_type, entity_id, container.name AS container, image, coalesce(host.name, lines.host) AS host,
    lines.attributes
FROM lines_of((SELECT list(series) FROM series WHERE signal IN (SELECT unnest($signals::VARCHAR[])))) AS lines
LEFT JOIN container ON entity_type = 'container' AND container.container_id = entity_id
LEFT JOIN host ON host.host = lines.host
ORDER BY line;
