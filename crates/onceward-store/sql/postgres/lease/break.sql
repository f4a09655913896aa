-- lease.break: ends somebody's grant, for an operator.
--
-- $1 namespace  $2 key  $3 token (NULL: whatever is held)  $4 actor  $5 reason
-- Rows: broken, waited_for, then the columns of a row: of every grant that was ended, as it was before, and of every
-- grant that was seen held.
-- Indexes: lease_pkey (namespace, key, slot); lease_waiter_pkey.

WITH setting AS MATERIALIZED (
    SELECT set_config('lock_timeout', '40ms', true)
), seen AS MATERIALIZED (
    SELECT l.*
    FROM setting, {schema}.lease l
    WHERE l.namespace = $1::text AND l.key = $2::text AND l.released_at IS NULL AND l.expires_at > {clock}
), held AS MATERIALIZED (
    SELECT l.*
    FROM setting, {schema}.lease l
    WHERE l.namespace = $1::text AND l.key = $2::text AND ($3::bigint IS NULL OR l.token = $3::bigint)
      AND l.released_at IS NULL AND l.expires_at > {clock}
    FOR NO KEY UPDATE OF l
), broken AS (
    UPDATE {schema}.lease l
    SET released_at = h.now
    FROM (SELECT held.*, {clock} AS now FROM held) h
    WHERE l.namespace = h.namespace AND l.key = h.key AND l.slot = h.slot AND h.expires_at > h.now
    RETURNING h.*
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason, claimed_at, claimed_by)
    SELECT 'lease', b.namespace, b.key, 'broken', b.token, $4::text, b.now, $5::text, b.granted_at,
           nullif(b.owner, $4::text)
    FROM broken b
)
SELECT r.broken,
       EXISTS (SELECT FROM {schema}.lease_waiter w
               WHERE w.namespace = $1::text AND w.key = $2::text AND w.expires_at > {clock}) AS waited_for,
       r.namespace, r.key, r.slot, r.token, r.owner, r.session, r.granted_at, r.expires_at, r.hard_expires_at,
       r.ttl_ms, r.lock_delay_ms, r.heartbeats, r.released_at, r.metadata
FROM (
    SELECT true AS broken, b.namespace, b.key, b.slot, b.token, b.owner, b.session, b.granted_at, b.expires_at,
           b.hard_expires_at, b.ttl_ms, b.lock_delay_ms, b.heartbeats, b.released_at, b.metadata
    FROM broken b
    UNION ALL
    SELECT false, s.namespace, s.key, s.slot, s.token, s.owner, s.session, s.granted_at, s.expires_at,
           s.hard_expires_at, s.ttl_ms, s.lock_delay_ms, s.heartbeats, s.released_at, s.metadata
    FROM seen s
) r
ORDER BY r.slot
