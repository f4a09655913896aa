-- endpoint.remove: an endpoint that has the version that was seen, and a word of it in the history.
--
-- $1 namespace  $2 name  $3 version  $4 actor  $5 reason
-- Rows: one if it went.
-- Index: endpoint_pkey (namespace, name).

WITH gone AS (
    DELETE FROM {schema}.endpoint e
    WHERE e.namespace = $1::text AND e.name = $2::text AND e.version = $3::bigint
    RETURNING e.version
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason)
    SELECT 'endpoint', $1::text, $2::text, 'removed', g.version, $4::text, {clock}, $5::text
    FROM gone g
)
SELECT g.version FROM gone g
