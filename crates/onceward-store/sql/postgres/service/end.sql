-- service.end: how a term ended, if it runs under this token.
--
-- $1 namespace  $2 service  $3 cycle  $4 part  $5 token  $6 outcome  $7 reason
-- Rows: one if it did.
-- Index: term_pkey (namespace, service, cycle, part).

UPDATE {schema}.term m
SET outcome = $6::text, reason = $7::text, ended_at = {clock}
WHERE m.namespace = $1::text AND m.service = $2::text AND m.cycle = $3::bigint AND m.part = $4::text
  AND m.token = $5::bigint AND m.outcome = 'running'
RETURNING true
