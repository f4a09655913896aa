-- endpoint.write: an endpoint, if it has the version that was seen (0: none), and what has happened to it.
--
-- $1 namespace  $2 name  $3 version seen  $4 definition  $5 event (NULL: nothing to tell)  $6 actor  $7 reason
-- Rows: one if it was written.
-- Index: endpoint_pkey (namespace, name).

WITH made AS (
    INSERT INTO {schema}.endpoint (namespace, name, version, definition)
    SELECT $1::text, $2::text, 1, $4::text
    WHERE $3::bigint = 0
    ON CONFLICT DO NOTHING
    RETURNING version
), changed AS (
    UPDATE {schema}.endpoint e
    SET version = e.version + 1, definition = $4::text
    WHERE e.namespace = $1::text AND e.name = $2::text AND e.version = $3::bigint AND $3::bigint > 0
    RETURNING e.version
), written AS MATERIALIZED (
    SELECT made.version FROM made
    UNION ALL
    SELECT changed.version FROM changed
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason)
    SELECT 'endpoint', $1::text, $2::text, $5::text, w.version, $6::text, {clock}, $7::text
    FROM written w
    WHERE $5::text IS NOT NULL
)
SELECT w.version FROM written w
