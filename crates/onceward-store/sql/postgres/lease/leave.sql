-- lease.leave: gives a place among the waiting up.
--
-- $1 namespace  $2 key  $3 session
-- One row: whether others still wait for the key.
-- Index: lease_waiter_pkey (namespace, key, session).

WITH setting AS MATERIALIZED (
    SELECT set_config('lock_timeout', '40ms', true)
), gone AS (
    DELETE FROM {schema}.lease_waiter w
    USING setting
    WHERE w.namespace = $1::text AND w.key = $2::text AND w.session = $3::uuid
)
SELECT EXISTS (SELECT FROM {schema}.lease_waiter w
               WHERE w.namespace = $1::text AND w.key = $2::text AND w.session <> $3::uuid
                 AND w.expires_at > {clock}) AS waited_for
