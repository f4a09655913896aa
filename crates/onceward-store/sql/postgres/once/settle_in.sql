-- once.settle_in: records how a function ended in the caller's own transaction.
--
-- $1 namespace  $2 key  $3 token  $4 state  $5 event  $6 body  $7 content_type  $8 body_size  $9 reason
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
), settled AS (
    UPDATE {schema}.once o
    SET state = $4::text, late = o.expires_at <= a.now, body = $6::bytea, content_type = $7::text,
        body_size = $8::bigint, reason = $9::text,
        uncertain_at = CASE WHEN $4::text = 'uncertain' THEN a.now ELSE o.uncertain_at END,
        finished_at = CASE WHEN $4::text <> 'uncertain' THEN a.now END,
        retain_until = CASE WHEN $4::text <> 'uncertain' THEN a.now + o.retain_ms * interval '1 millisecond' END
    FROM (SELECT {clock} AS now FROM setting) a
    WHERE o.namespace = $1::text AND o.key = $2::text AND o.token = $3::bigint
      AND (o.state = 'running' OR (o.state = 'uncertain' AND $4::text <> 'uncertain'))
    RETURNING o.namespace, o.key, o.token, o.owner, o.late, o.reason, a.now,
              CASE WHEN $4::text = 'uncertain' OR o.uncertain_at IS NULL THEN o.claimed_at END AS claimed_at
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
    SELECT 'once', s.namespace, s.key, $5::text, s.token, s.owner, s.now, s.reason, s.claimed_at
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
