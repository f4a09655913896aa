-- service.write: what a service is set to, if it has the version that was seen (0: none).
--
-- $1 namespace  $2 name  $3 version seen  $4 setting
-- Rows: one if it was written.
-- Index: service_pkey (namespace, name).

WITH made AS (
    INSERT INTO {schema}.service (namespace, name, version, setting)
    SELECT $1::text, $2::text, 1, $4::text
    WHERE $3::bigint = 0
    ON CONFLICT DO NOTHING
    RETURNING version
), changed AS (
    UPDATE {schema}.service s
    SET version = s.version + 1, setting = $4::text
    WHERE s.namespace = $1::text AND s.name = $2::text AND s.version = $3::bigint AND $3::bigint > 0
    RETURNING s.version
)
SELECT made.version FROM made
UNION ALL
SELECT changed.version FROM changed
