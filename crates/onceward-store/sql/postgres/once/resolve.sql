-- once.resolve: an operator settles what nobody knows, under a new token, so that a late first owner is fenced (O6, O7).
--
-- $1 namespace  $2 key  $3 token that was looked at (NULL: as it is)  $4 state  $5 event  $6 body  $7 content_type
-- $8 body_size  $9 reason kept with a failure  $10 actor  $11 why, for the history  $12 the reason of an expired claim
-- Rows: the new token; none if it was not resolved. Look it up to learn why not.
-- Index: once_pkey (namespace, key).

WITH setting AS MATERIALIZED (
    SELECT set_config('lock_timeout', '40ms', true)
), held AS MATERIALIZED (
    SELECT o.namespace, o.key, o.state, o.token, o.owner, o.claimed_at, o.expires_at, o.uncertain_at
    FROM setting, {schema}.once o
    WHERE o.namespace = $1::text AND o.key = $2::text
      AND (o.state = 'uncertain' OR (o.state = 'running' AND o.expires_at <= {clock}))
    FOR UPDATE OF o
), doubtful AS MATERIALIZED (
    -- Once the lock is held, time is looked at again: the claim may have been renewed meanwhile (E17).
    SELECT h.*, $3::bigint IS NULL OR h.token = $3::bigint AS meant
    FROM (SELECT held.*, {clock} AS now FROM held) h
    WHERE h.state = 'uncertain' OR h.expires_at <= h.now
), doubted AS (
    UPDATE {schema}.once o
    SET state = 'uncertain', uncertain_at = coalesce(d.uncertain_at, d.expires_at), reason = $12::text
    FROM doubtful d
    WHERE o.namespace = d.namespace AND o.key = d.key AND d.state = 'running' AND NOT d.meant
), resolved AS (
    UPDATE {schema}.once o
    SET state = $4::text, token = greatest(d.token + 1, (extract(epoch FROM d.now) * 1000000)::bigint),
        uncertain_at = coalesce(o.uncertain_at, d.expires_at),
        finished_at = d.now, retain_until = d.now + o.retain_ms * interval '1 millisecond',
        body = CASE WHEN $4::text = 'done' THEN $6::bytea ELSE o.body END,
        content_type = CASE WHEN $4::text = 'done' THEN $7::text ELSE o.content_type END,
        body_size = CASE WHEN $4::text = 'done' THEN $8::bigint ELSE o.body_size END,
        reason = CASE
            WHEN $4::text = 'done' THEN NULL
            WHEN $4::text = 'failed' THEN $9::text
            WHEN d.state = 'running' THEN $12::text
            ELSE o.reason
        END
    FROM doubtful d
    WHERE o.namespace = d.namespace AND o.key = d.key AND d.meant
    RETURNING o.namespace, o.key, o.token, o.finished_at
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
    SELECT 'once', d.namespace, d.key, 'expired', d.token, d.owner, d.expires_at, $12::text, d.claimed_at
    FROM doubtful d
    WHERE d.state = 'running'
    UNION ALL
    SELECT 'once', r.namespace, r.key, $5::text, r.token, $10::text, r.finished_at, $11::text, NULL
    FROM resolved r
)
SELECT r.token
FROM resolved r
