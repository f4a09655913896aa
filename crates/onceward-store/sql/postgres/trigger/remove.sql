-- trigger.remove: a trigger that has the version that was seen, and what it has heard; under version 0 only what was heard for
-- one that is not there.
--
-- $1 namespace  $2 name  $3 version
-- Rows: one if it went.
-- Index: trigger_pkey (namespace, name). What was heard is read as a whole: there is little of it.

WITH gone AS (
    DELETE FROM {schema}.trigger r
    WHERE r.namespace = $1::text AND r.name = $2::text AND r.version = $3::bigint
    RETURNING r.version
), absent AS MATERIALIZED (
    SELECT 1
    WHERE EXISTS (SELECT FROM gone)
       OR NOT EXISTS (SELECT FROM {schema}.trigger r WHERE r.namespace = $1::text AND r.name = $2::text)
), unlistened AS (
    DELETE FROM {schema}.trigger_watch w
    USING absent
    WHERE w.namespace = $1::text AND w.trigger = $2::text
), unheard AS (
    DELETE FROM {schema}.trigger_heard h
    USING absent
    WHERE h.namespace = $1::text AND h.trigger = $2::text
)
SELECT gone.version FROM gone
