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
), held AS MATERIALIZED (
    SELECT o.namespace, o.key, o.token, o.state AS ended_state, o.owner, o.claimed_at, o.reason AS doubt,
           -- That this run did nothing says nothing of the run before it.
           CASE WHEN $4::text = 'released' AND o.uncertain_at <= o.claimed_at THEN 'uncertain' ELSE $4::text END AS state
    FROM setting, {schema}.once o
    WHERE o.namespace = $1::text AND o.key = $2::text AND o.token = $3::bigint AND o.state IN ('running', 'uncertain')
    FOR NO KEY UPDATE OF o
), settled AS (
    UPDATE {schema}.once o
    SET state = h.state, late = o.expires_at <= h.now, body = $6::bytea, content_type = $7::text,
        body_size = $8::bigint, reason = CASE WHEN h.state = $4::text THEN $9::text ELSE h.doubt END,
        uncertain_at = CASE WHEN h.state = 'uncertain' THEN coalesce(o.uncertain_at, h.now) ELSE o.uncertain_at END,
        finished_at = CASE WHEN h.state <> 'uncertain' THEN h.now END,
        retain_until = CASE WHEN h.state <> 'uncertain' THEN h.now + o.retain_ms * interval '1 millisecond' END
    FROM (SELECT held.*, {clock} AS now FROM held) h
    WHERE o.namespace = h.namespace AND o.key = h.key AND (h.ended_state = 'running' OR h.state <> 'uncertain')
    RETURNING h.*, o.late
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
    SELECT 'once', s.namespace, s.key, $5::text, s.token, s.owner, s.now, $9::text,
           CASE WHEN s.ended_state = 'running' THEN s.claimed_at END
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
