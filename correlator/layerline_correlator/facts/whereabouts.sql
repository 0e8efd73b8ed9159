-- On which machine everybody is, in one word per machine, whoever calls it what. settle.sql puts it into the tables.
--
-- A machine is known by its boot id (our agent and wrapper), its host.id, its name (host.name, k8s.node.name, or
-- nodename in node_exporter's node_uname_info), or by the address at which it is scraped. Full and short names are the
-- same unless two machines share the short one. The Collector's docker_stats receiver names no machine at all, a scraped
-- cAdvisor only its own address: these are where the one machine is that is known, and stay there when others turn up;
-- where none or several are known, each container is taken by itself, so that nobody is called its neighbour who is not.
--
-- A cloud provider tells of all instances of an account by their ids, which the agent tells of its own machine where the firmware
-- has it, and of volumes, whose machine node_exporter tells (node_disk_info). They make no machine known.
CREATE OR REPLACE MACRO short_name(name) AS
    CASE WHEN regexp_matches(name, '^[0-9.]+$|:') THEN name ELSE lower(split_part(name, '.', 1)) END;

CREATE OR REPLACE VIEW whereabouts AS
WITH
told AS (
    SELECT
        resource.resource, service, container_id, host AS before, seen_ns,
        nullif(attributes['layerline.boot_id'], '') AS boot_id,
        nullif(attributes['host.id'], '')           AS id,
        coalesce(machine_name(attributes), nodename) AS name,
        CASE WHEN service IS NULL THEN attributes['server.address'] END AS address,
        coalesce(
            attributes['layerline.reading.source'] IN ('cloudwatch', 'azuremonitor', 'googlecloudmonitoring'), FALSE)
            AS of_cloud,
        attributes['layerline.instance.id'] AS instance_id, attributes['cloud.volume.id'] AS volume
    FROM resource
    LEFT JOIN (SELECT resource, any_value(attributes['nodename']) AS nodename FROM series
               WHERE signal = 'node_uname_info' GROUP BY resource) AS uname ON uname.resource = resource.resource
),
-- Who tells of a machine itself, not of a container or a process on it. Our boot id is believed from anybody.
machine AS (
    SELECT *, coalesce(boot_id, id, name, address) AS word FROM told
    WHERE (service IS NULL AND container_id IS NULL AND coalesce(id, name, address) IS NOT NULL AND NOT of_cloud)
       OR boot_id IS NOT NULL
),
-- The best word there is: a boot id, the newest; else what is left.
by_id AS (
    SELECT id, first(word ORDER BY boot_id IS NULL, seen_ns DESC) AS word
    FROM (SELECT word, boot_id, seen_ns, unnest([machine.id, instance_id]) AS id FROM machine)
    WHERE id IS NOT NULL GROUP BY id
),
by_name AS (
    SELECT short_name(name) AS short, first(word ORDER BY boot_id IS NULL, id IS NULL, seen_ns DESC) AS word
    FROM machine WHERE name IS NOT NULL GROUP BY ALL
    HAVING count(DISTINCT id) <= 1 AND count(DISTINCT name) FILTER (contains(name, '.')) <= 1
),
by_address AS (
    SELECT machine.address, any_value(coalesce(by_id.word, by_name.word, machine.word)) AS word
    FROM machine LEFT JOIN by_id USING (id) LEFT JOIN by_name ON by_name.short = short_name(name)
    WHERE machine.address IS NOT NULL AND coalesce(id, name) IS NOT NULL GROUP BY machine.address
),
by_volume AS (
    SELECT disk.volume, any_value(coalesce(by_id.word, by_name.word, machine.word)) AS word
    FROM machine
    JOIN (SELECT DISTINCT resource, regexp_replace(attributes['serial'], '^vol-?', 'vol-') AS volume FROM series
          WHERE signal = 'node_disk_info' AND starts_with(attributes['serial'], 'vol')) AS disk
        ON disk.resource = machine.resource
    LEFT JOIN by_id USING (id) LEFT JOIN by_name ON by_name.short = short_name(name)
    GROUP BY disk.volume
),
the_one AS (
    SELECT any_value(word) AS word FROM (
        SELECT DISTINCT coalesce(by_id.word, by_name.word, by_address.word, machine.word) AS word
        FROM machine LEFT JOIN by_id USING (id) LEFT JOIN by_name ON by_name.short = short_name(name)
        LEFT JOIN by_address ON by_address.address = machine.address
    ) HAVING count(*) = 1
),
-- Where it was put before, in today's word.
put AS (
    SELECT told.*, coalesce(by_id.word, by_name.word, before) AS before_word
    FROM told LEFT JOIN by_id ON by_id.id = before LEFT JOIN by_name ON by_name.short = short_name(before)
)
SELECT
    put.resource,
    CASE
        WHEN boot_id IS NOT NULL                    THEN boot_id
        WHEN coalesce(put.id, name) IS NOT NULL     THEN coalesce(by_id.word, by_name.word, put.id, name)
        WHEN of_cloud                               THEN by_volume.word
        WHEN service IS NULL THEN coalesce(by_address.word, (SELECT word FROM the_one),
                                           CASE
                                               WHEN
                                                   before_word <> container_id AND NOT is_stand_in(before_word)
                                                   THEN before_word
                                           END,
                                           put.address, container_id)
    END AS host
FROM put
LEFT JOIN by_id ON by_id.id = put.id
LEFT JOIN by_name ON by_name.short = short_name(name)
LEFT JOIN by_address ON by_address.address = put.address
LEFT JOIN by_volume ON by_volume.volume = put.volume;
