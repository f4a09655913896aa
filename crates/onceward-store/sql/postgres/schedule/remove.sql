-- schedule.remove: a schedule that has the version that was seen.
--
-- $1 namespace  $2 name  $3 version
-- Rows: one if it went.
-- Index: schedule_pkey (namespace, name).

DELETE FROM {schema}.schedule s
WHERE s.namespace = $1::text AND s.name = $2::text AND s.version = $3::bigint
RETURNING s.version
