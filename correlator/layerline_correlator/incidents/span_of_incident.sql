-- When an incident began and ended: as the troubles that it is made of.
UPDATE incident
SET start_ns = parts.start_ns, end_ns = parts.end_ns, noticed_ns = parts.noticed_ns
FROM (
    SELECT min(start_ns) AS start_ns, min(noticed_ns) AS noticed_ns,
           CASE WHEN bool_or(end_ns IS NULL) THEN NULL ELSE max(end_ns) END AS end_ns
    FROM trouble WHERE trouble.incident = $incident
) AS parts
WHERE incident.incident = $incident;
