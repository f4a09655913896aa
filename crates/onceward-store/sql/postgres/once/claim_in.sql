-- once.claim_in: claims one key in the caller's own transaction; the claim commits or vanishes with it (O11).
--
-- $1 namespace  $2 key  $3 owner  $4 session (as text)  $5 ttl_ms  $6 hard_ttl_ms  $7 retain_ms  $8 fingerprint
-- $9 restartable  $10 the reason written on an expired claim  $11 the latest that the clock may show, in microseconds
-- since 1970, before outcomes are not forgotten by it (N16), NULL where nothing is known yet
-- One row: granted, now, then the columns of the row, as written where granted, else as it was read; times in
-- microseconds since 1970. Where granted is NULL, somebody else was writing the row: run the statement again.
-- A second transaction that claims the key waits at most 40 ms for the first one to end, then fails with 55P03. The
-- caller's own lock_timeout is put back by the same statement (and by a rollback, should it fail).
-- Index: once_pkey (namespace, key).

WITH setting AS MATERIALIZED (
    SELECT b.lock_timeout, set_config('lock_timeout', '40ms', true)
    FROM (SELECT current_setting('lock_timeout') AS lock_timeout OFFSET 0) b
), ask AS MATERIALIZED (
    SELECT $1::text AS namespace, $2::text AS key, $3::text AS owner, $4::text::uuid AS session, $5::bigint AS ttl_ms,
           $6::bigint AS hard_ttl_ms, $7::bigint AS retain_ms, $8::bytea AS fingerprint, $9::boolean AS restartable,
           {clock} AS now, coalesce((extract(epoch FROM {clock}) * 1000000)::bigint <= $11::bigint, true) AS trusted
    FROM setting
), seen AS MATERIALIZED (
    SELECT o.*,
           CASE o.state
               WHEN 'released' THEN true
               WHEN 'running' THEN o.expires_at <= a.now
               WHEN 'uncertain' THEN a.restartable AND coalesce(o.fingerprint = a.fingerprint, true)
               ELSE a.trusted AND o.retain_until <= a.now
           END AS movable
    FROM ask a
    JOIN {schema}.once o ON o.namespace = a.namespace AND o.key = a.key
), locked AS MATERIALIZED (
    SELECT o.namespace, o.key, o.state, o.token, o.owner, o.attempts, o.claimed_at, o.expires_at,
           o.uncertain_at, o.finished_at, o.reason, o.untold,
           o.state IN ('released', 'done', 'failed')
               OR (a.restartable AND coalesce(o.fingerprint = a.fingerprint, true)) AS grantable
    FROM seen s
    JOIN {schema}.once o ON o.namespace = s.namespace AND o.key = s.key, ask a
    WHERE s.movable
      AND CASE o.state
              WHEN 'released' THEN true
              WHEN 'running' THEN o.expires_at <= {clock}
              WHEN 'uncertain' THEN a.restartable AND coalesce(o.fingerprint = a.fingerprint, true)
              ELSE a.trusted AND o.retain_until <= {clock}
          END
    FOR UPDATE OF o SKIP LOCKED
), doubted AS (
    UPDATE {schema}.once o
    SET state = 'uncertain', uncertain_at = coalesce(k.uncertain_at, k.expires_at), reason = $10::text
    FROM locked k
    WHERE o.namespace = k.namespace AND o.key = k.key AND k.state = 'running' AND NOT k.grantable
), taken AS (
    UPDATE {schema}.once o
    SET state = 'running', token = greatest(k.token + 1, (extract(epoch FROM k.now) * 1000000)::bigint),
        owner = a.owner, session = a.session, attempts = k.attempts + 1, fingerprint = a.fingerprint,
        claimed_at = k.now,
        expires_at = least(k.now + a.ttl_ms * interval '1 millisecond',
                           k.now + a.hard_ttl_ms * interval '1 millisecond'),
        hard_expires_at = k.now + a.hard_ttl_ms * interval '1 millisecond',
        ttl_ms = a.ttl_ms, retain_ms = a.retain_ms, finished_at = NULL, retain_until = NULL, late = false,
        body = NULL, content_type = NULL, body_size = NULL, untold = false,
        -- Whoever runs what is in doubt once more inherits the doubt, until there is an outcome.
        uncertain_at = CASE
            WHEN k.state = 'running' THEN least(coalesce(k.uncertain_at, k.expires_at), k.now)
            WHEN k.state = 'uncertain' THEN least(k.uncertain_at, k.now)
        END,
        reason = CASE k.state WHEN 'running' THEN $10::text WHEN 'uncertain' THEN k.reason END
    FROM (SELECT locked.*, {clock} AS now FROM locked WHERE locked.grantable) k, ask a
    WHERE o.namespace = k.namespace AND o.key = k.key
    RETURNING o.*, k.state AS ended_state, k.token AS ended_token
), told AS (
    -- What the row itself has told of until now: how it ended.
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
    SELECT 'once', k.namespace, k.key, CASE k.state WHEN 'released' THEN 'not_started' ELSE k.state END, k.token,
           k.owner, k.finished_at, k.reason, k.claimed_at
    FROM locked k
    WHERE k.untold
    UNION ALL
    SELECT 'once', k.namespace, k.key, 'expired', k.token, k.owner, k.expires_at, $10::text, k.claimed_at
    FROM locked k
    WHERE k.state = 'running'
    UNION ALL
    SELECT 'once', t.namespace, t.key,
           CASE WHEN t.ended_state IN ('done', 'failed') THEN 'retired' ELSE 'restarted' END, t.ended_token, t.owner,
           t.claimed_at, NULL, NULL
    FROM taken t
    WHERE t.ended_state <> 'released'
), made AS (
    INSERT INTO {schema}.once (namespace, key, state, token, owner, session, attempts, fingerprint, claimed_at,
                               expires_at, hard_expires_at, ttl_ms, retain_ms, late)
    SELECT a.namespace, a.key, 'running', (extract(epoch FROM a.now) * 1000000)::bigint, a.owner, a.session,
           1, a.fingerprint, a.now,
           least(a.now + a.ttl_ms * interval '1 millisecond', a.now + a.hard_ttl_ms * interval '1 millisecond'),
           a.now + a.hard_ttl_ms * interval '1 millisecond', a.ttl_ms, a.retain_ms, false
    FROM ask a
    WHERE NOT EXISTS (SELECT FROM seen)
    ON CONFLICT DO NOTHING
    RETURNING *
), outcome AS (
    SELECT true AS granted, m.claimed_at AS now, m.namespace, m.key, m.state, m.token, m.owner, m.session,
           m.attempts, m.fingerprint, m.claimed_at, m.expires_at, m.hard_expires_at, m.ttl_ms, m.retain_ms,
           m.uncertain_at, m.finished_at, m.retain_until, m.late, m.body, m.content_type, m.body_size, m.reason
    FROM made m
    UNION ALL
    SELECT true, t.claimed_at, t.namespace, t.key, t.state, t.token, t.owner, t.session, t.attempts, t.fingerprint,
           t.claimed_at, t.expires_at, t.hard_expires_at, t.ttl_ms, t.retain_ms, t.uncertain_at, t.finished_at,
           t.retain_until, t.late, t.body, t.content_type, t.body_size, t.reason
    FROM taken t
    UNION ALL
    SELECT false, a.now, s.namespace, s.key, s.state, s.token, s.owner, s.session, s.attempts, s.fingerprint,
           s.claimed_at, s.expires_at, s.hard_expires_at, s.ttl_ms, s.retain_ms, s.uncertain_at, s.finished_at,
           s.retain_until, s.late, s.body, s.content_type, s.body_size, s.reason
    FROM seen s, ask a
    -- The outcome is complete when the first row leaves the sort: only then is the setting put back.
    ORDER BY granted DESC
    LIMIT 1
)
SELECT r.granted, (extract(epoch FROM r.now) * 1000000)::bigint AS now, r.namespace, r.key, r.state, r.token, r.owner,
       r.session::text AS session, r.attempts, r.fingerprint,
       (extract(epoch FROM r.claimed_at) * 1000000)::bigint AS claimed_at,
       (extract(epoch FROM r.expires_at) * 1000000)::bigint AS expires_at,
       (extract(epoch FROM r.hard_expires_at) * 1000000)::bigint AS hard_expires_at,
       r.ttl_ms, r.retain_ms,
       (extract(epoch FROM r.uncertain_at) * 1000000)::bigint AS uncertain_at,
       (extract(epoch FROM r.finished_at) * 1000000)::bigint AS finished_at,
       (extract(epoch FROM r.retain_until) * 1000000)::bigint AS retain_until,
       r.late, r.body, r.content_type, r.body_size, r.reason,
       set_config('lock_timeout', setting.lock_timeout, true) AS lock_timeout
FROM setting
LEFT JOIN outcome r ON true
