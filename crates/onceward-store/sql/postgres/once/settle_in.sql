-- once.settle_in: records a result in the caller's own transaction. Only results: a function that ended otherwise rolls
-- back what it did, and its claim with it.
--
-- $1 namespace  $2 key  $3 token  $4 body  $5 content_type  $6 body_size
-- One row: applied, late, and token and state of the row as it was before (NULL if there was none).
-- Waits at most 40 ms for a lock on the row, then fails with 55P03; the caller's own lock_timeout is put back by the
-- same statement (and by a rollback, should it fail).
-- Index: once_pkey (namespace, key).

WITH setting AS MATERIALIZED (
    SELECT b.lock_timeout, set_config('lock_timeout', '40ms', true)
    FROM (SELECT current_setting('lock_timeout') AS lock_timeout OFFSET 0) b
), seen AS MATERIALIZED (
    SELECT o.token, o.state
    FROM setting, {schema}.once o
    WHERE o.namespace = $1::text AND o.key = $2::text
), held AS MATERIALIZED (
    SELECT o.namespace, o.key, o.token, o.state, o.owner, o.claimed_at
    FROM setting, {schema}.once o
    WHERE o.namespace = $1::text AND o.key = $2::text AND o.token = $3::bigint AND o.state IN ('running', 'uncertain')
    FOR NO KEY UPDATE OF o
), settled AS (
    UPDATE {schema}.once o
    SET state = 'done', late = o.expires_at <= h.now, body = $4::bytea, content_type = $5::text,
        body_size = $6::bigint, reason = NULL, finished_at = h.now,
        retain_until = h.now + o.retain_ms * interval '1 millisecond'
    FROM (SELECT held.*, {clock} AS now FROM held) h
    WHERE o.namespace = h.namespace AND o.key = h.key
    RETURNING h.*, o.late
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, claimed_at)
    SELECT 'once', s.namespace, s.key, 'done', s.token, s.owner, s.now,
           CASE WHEN s.state = 'running' THEN s.claimed_at END
    FROM settled s
), outcome AS (
    -- One row whatever there is; complete before the setting is put back.
    SELECT count(s.late) > 0 AS applied, coalesce(bool_or(s.late), false) AS late
    FROM settled s
)
SELECT r.applied, r.late, seen.token, seen.state, set_config('lock_timeout', setting.lock_timeout, true) AS lock_timeout
FROM setting
CROSS JOIN outcome r
LEFT JOIN seen ON true
