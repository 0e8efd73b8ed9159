-- Who is who: containers, machines, and the tags of each. Made when a store is opened.

-- The newest description of each container, by rows of `resource` in the named table: from the agent, which knows names, else
-- from the spans themselves.
CREATE OR REPLACE MACRO containers_of(rows) AS TABLE
SELECT
    container_id,
    -- The agent knows the machine; a stranger inside takes the container's own name for one.
    coalesce(arg_max(host, seen_ns) FILTER (attributes['container.name'] IS NOT NULL),
             arg_max(host, seen_ns) FILTER (attributes['layerline.boot_id'] IS NOT NULL),
             arg_max(host, seen_ns))                              AS host,
    arg_max(attributes['container.name'], seen_ns)                AS name,
    arg_max(attributes['container.image.name'], seen_ns)          AS image,
    arg_max(attributes['container.label.com.docker.compose.service'], seen_ns) AS compose_service,
    -- What people call it: the pod and its container (of what holds the pod's network, the pod), the container; else the
    -- service that runs in it, if that is one. With containerd cAdvisor gives the id for a name.
    coalesce(
        arg_max(coalesce(attributes['k8s.pod.name'], attributes['container.label.io.kubernetes.pod.name'])
                || CASE WHEN sandbox THEN ' (pod)' ELSE '/' || coalesce(
                    attributes['k8s.container.name'], attributes['container.label.io.kubernetes.container.name']
                ) END,
                seen_ns
                ),
        arg_max(attributes['container.name'], seen_ns) FILTER (attributes['container.name'] <> container_id),
        CASE WHEN count(DISTINCT service) = 1 THEN any_value(service) END) AS shown_name,
    coalesce(arg_max(attributes, seen_ns) FILTER (attributes['container.name'] IS NOT NULL),
             arg_max(attributes, seen_ns) FILTER (service IS NULL)) AS attributes,
    bool_or(attributes['container.name'] IS NOT NULL)             AS described
FROM query_table(rows)
WHERE container_id IS NOT NULL
GROUP BY container_id;

CREATE OR REPLACE VIEW container AS FROM containers_of('resource');

-- The container that holds the network of a pod, for each of its containers: what is read of the network is read of that.
CREATE OR REPLACE VIEW pod_network AS
WITH member AS (
    SELECT DISTINCT
        container_id, sandbox,
        coalesce(
            attributes['k8s.pod.uid'], attributes['container.label.io.kubernetes.pod.uid'],
            attributes['k8s.namespace.name'] || '/' || attributes['k8s.pod.name']
        ) AS pod
    FROM resource WHERE service IS NULL AND container_id IS NOT NULL
)
SELECT member.container_id, holder.container_id AS sandbox_id
FROM member JOIN member AS holder ON holder.pod = member.pod
WHERE holder.sandbox AND NOT member.sandbox;

-- Which container runs inside of which (the agent says so): what the outer one used contains what the inner one used.
CREATE OR REPLACE VIEW nested AS
SELECT DISTINCT container_id, attributes['layerline.container.parent'] AS outer_id
FROM resource
WHERE service IS NULL AND container_id <> attributes['layerline.container.parent'];

-- The same through any number of containers, in both directions: neither is the other's neighbour.
CREATE OR REPLACE VIEW enclosed AS
WITH RECURSIVE upwards AS (
    SELECT container_id, outer_id FROM nested
    UNION
    SELECT upwards.container_id, nested.outer_id FROM upwards JOIN nested ON nested.container_id = upwards.outer_id
)
SELECT container_id, outer_id AS other_id FROM upwards
UNION
SELECT outer_id, container_id FROM upwards;

-- Which process ran where is worked out for the moment in question (join.sql).
DROP VIEW IF EXISTS owner;

CREATE OR REPLACE VIEW host AS
SELECT
    host,
    arg_max(attributes['host.id'], seen_ns) FILTER (NOT coalesce(in_container, FALSE))   AS host_id,
    arg_max(machine_name(attributes), seen_ns)
        FILTER (NOT coalesce(in_container, FALSE) OR attributes['k8s.node.name'] IS NOT NULL)  AS name,
    arg_max(attributes, seen_ns) FILTER (service IS NULL AND container_id IS NULL) AS attributes,
    bool_or(service IS NULL)                                      AS described
FROM resource
WHERE host IS NOT NULL
GROUP BY host;

-- ---- tags

-- An attribute that is a list was written down as JSON: each of its items is a value.
CREATE OR REPLACE MACRO values_in(text) AS
    CASE
        WHEN text IS NULL THEN [] WHEN
            text LIKE '[%]' AND json_valid(text)
            THEN json_extract_string(text, '$[*]') ELSE [text]
    END;
-- The values of a tag: its own, else its container's attribute or Docker label, else its host's.
CREATE OR REPLACE MACRO tag_of(own, of_container, of_host, key) AS values_in(coalesce(
    own[key], of_container[key], of_container['container.label.' || key], own['container.label.' || key], of_host[key])
    );
-- `*` came as `%` (tagquery/condition.py).
CREATE OR REPLACE MACRO has_value(listed, pattern) AS
    coalesce(len(list_filter(listed, lambda one: one LIKE pattern ESCAPE '\')) > 0, FALSE);

-- Where the tags of each sender stand: of those whose requests began in the window, where these were (join.sql); of all
-- others, where they say they are. What the agent says of a container counts as it said it last.
CREATE OR REPLACE MACRO tagged(since_ns, until_ns) AS TABLE
WITH
tied AS (
    SELECT DISTINCT resource, container_id, host FROM request
    WHERE start_ns >= since_ns AND start_ns < until_ns AND weight > 0
),
placed AS (
    FROM tied
    UNION ALL
    SELECT resource, container_id, host FROM resource ANTI JOIN tied USING (resource)
)
SELECT
    placed.resource, service, placed.container_id, coalesce(placed.host, container.host) AS host,
    CASE WHEN service IS NOT NULL OR container.attributes IS NULL THEN resource.attributes END AS own,
    container.attributes AS of_container, host.attributes AS of_host
FROM placed
JOIN resource ON resource.resource = placed.resource
LEFT JOIN container ON container.container_id = placed.container_id
LEFT JOIN host ON host.host = coalesce(placed.host, container.host);
