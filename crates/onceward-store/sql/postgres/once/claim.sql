-- once.claim: claims keys, durably (O9). A finished key costs a read: no write, no lock.
--
-- fresh: claims what has no row, and looks at nothing: what remains was there. It waits, as long as a lock may be waited
--      for, for whoever is writing a row of such a key. The parameters $1 to $8.
-- new: claims what has no row, and reads what has: first calls and replays need no more, and every further step of a
--      statement costs time whether or not it has rows to work on. The parameters $1 to $8. The last column, of both,
--      says where a grant was written.
-- claim: claims what can be claimed, and writes down what ran out.
--
-- $1 namespace[]  $2 key[]  $3 owner[]  $4 session[]  $5 ttl_ms[]  $6 hard_ttl_ms[]  $7 retain_ms[]  $8 fingerprint[]
-- $9 restartable[]; one key each, sorted by (namespace, key)  $10 the reason written on an expired claim
-- Rows: granted, namespace, key, now, then the columns of the row. A granted row has only what the ask did not say
-- (token, attempts and times); the others are as they were read, with their bodies if settled.
-- A key without a row was being written by somebody else: ask again in a new statement.
-- Index: once_pkey (namespace, key).

-- step: fresh
{bound}INSERT INTO {schema}.once (namespace, key, state, token, owner, session, attempts, fingerprint, claimed_at, expires_at,
                           hard_expires_at, ttl_ms, retain_ms, late)
SELECT a.namespace, a.key, 'running', (extract(epoch FROM t.now) * 1000000)::bigint, a.owner, a.session, 1, a.fingerprint,
       t.now, least(t.now + a.ttl_ms * interval '1 millisecond', t.now + a.hard_ttl_ms * interval '1 millisecond'),
       t.now + a.hard_ttl_ms * interval '1 millisecond', a.ttl_ms, a.retain_ms, false
FROM {bounded}(SELECT {clock} AS now OFFSET 0) t,
     unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[])
         AS a (namespace, key, owner, session, ttl_ms, hard_ttl_ms, retain_ms, fingerprint)
ON CONFLICT (namespace, key) DO NOTHING
RETURNING true AS granted, namespace, key, claimed_at AS now, NULL AS state, token, NULL AS owner, NULL::uuid AS session,
          attempts, NULL::bytea AS fingerprint, claimed_at, expires_at, hard_expires_at, NULL::bigint AS ttl_ms,
          NULL::bigint AS retain_ms, NULL::timestamptz AS uncertain_at, NULL::timestamptz AS finished_at,
          NULL::timestamptz AS retain_until, NULL::boolean AS late, NULL::bytea AS body, NULL AS content_type,
          NULL::bigint AS body_size, NULL AS reason, ctid AS place

-- step: new
{bound}WITH ask AS MATERIALIZED (
    SELECT a.*, {clock} AS now
    FROM {bounded}unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::bytea[])
        AS a (namespace, key, ask_owner, ask_session, ask_ttl_ms, ask_hard_ttl_ms, ask_retain_ms, ask_fingerprint)
), made AS (
    INSERT INTO {schema}.once (namespace, key, state, token, owner, session, attempts, fingerprint, claimed_at,
                               expires_at, hard_expires_at, ttl_ms, retain_ms, late)
    SELECT a.namespace, a.key, 'running', (extract(epoch FROM a.now) * 1000000)::bigint, a.ask_owner, a.ask_session,
           1, a.ask_fingerprint, a.now,
           least(a.now + a.ask_ttl_ms * interval '1 millisecond', a.now + a.ask_hard_ttl_ms * interval '1 millisecond'),
           a.now + a.ask_hard_ttl_ms * interval '1 millisecond', a.ask_ttl_ms, a.ask_retain_ms, false
    FROM ask a
    -- The insert would wait for whoever is writing a row that is there.
    WHERE NOT EXISTS (SELECT FROM {schema}.once o WHERE o.namespace = a.namespace AND o.key = a.key)
    ON CONFLICT DO NOTHING
    RETURNING namespace, key, token, attempts, claimed_at, expires_at, hard_expires_at, ctid AS place
)
SELECT true AS granted, m.namespace, m.key, m.claimed_at AS now, NULL AS state, m.token, NULL AS owner,
       NULL::uuid AS session, m.attempts, NULL::bytea AS fingerprint, m.claimed_at, m.expires_at, m.hard_expires_at,
       NULL::bigint AS ttl_ms, NULL::bigint AS retain_ms, NULL::timestamptz AS uncertain_at,
       NULL::timestamptz AS finished_at, NULL::timestamptz AS retain_until, NULL::boolean AS late, NULL::bytea AS body,
       NULL AS content_type, NULL::bigint AS body_size, NULL AS reason, m.place
FROM made m
UNION ALL
SELECT false, o.namespace, o.key, a.now, o.state, o.token, o.owner, o.session, o.attempts, o.fingerprint, o.claimed_at,
       o.expires_at, o.hard_expires_at, o.ttl_ms, o.retain_ms, o.uncertain_at, o.finished_at, o.retain_until, o.late,
       o.body, o.content_type, o.body_size, o.reason, NULL
FROM ask a
JOIN {schema}.once o ON o.namespace = a.namespace AND o.key = a.key
WHERE (a.namespace, a.key) NOT IN (SELECT m.namespace, m.key FROM made m)

-- step: claim
{bound}WITH ask AS MATERIALIZED (
    SELECT a.*
    FROM {bounded}unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::bytea[], $9::boolean[])
        AS a (namespace, key, ask_owner, ask_session, ask_ttl_ms, ask_hard_ttl_ms, ask_retain_ms,
              ask_fingerprint, restartable)
), seen AS MATERIALIZED (
    SELECT a.*, o.state, o.token, o.owner, o.session, o.attempts, o.fingerprint, o.claimed_at, o.expires_at,
           o.hard_expires_at, o.ttl_ms, o.retain_ms, o.uncertain_at, o.finished_at, o.retain_until, o.late, o.body,
           o.content_type, o.body_size, o.reason,
           -- Whether this ask moves the row: it is free again, or its claim has run out, or may be run again.
           coalesce(CASE o.state
               WHEN 'released' THEN true
               WHEN 'running' THEN o.expires_at <= a.now
               WHEN 'uncertain' THEN a.restartable AND coalesce(o.fingerprint = a.ask_fingerprint, true)
               ELSE o.retain_until <= a.now
           END, false) AS movable
    FROM (SELECT ask.*, {clock} AS now FROM ask) a
    LEFT JOIN {schema}.once o ON o.namespace = a.namespace AND o.key = a.key
), locked AS MATERIALIZED (
    SELECT s.namespace, s.key, s.ask_owner, s.ask_session, s.ask_ttl_ms, s.ask_hard_ttl_ms, s.ask_retain_ms,
           s.ask_fingerprint, o.state, o.token, o.owner, o.attempts, o.claimed_at, o.expires_at,
           o.uncertain_at, o.finished_at, o.reason, o.untold,
           o.state IN ('released', 'done', 'failed')
               OR (s.restartable AND coalesce(o.fingerprint = s.ask_fingerprint, true)) AS grantable
    FROM seen s
    JOIN {schema}.once o ON o.namespace = s.namespace AND o.key = s.key
    WHERE s.movable
      AND CASE o.state
              WHEN 'released' THEN true
              WHEN 'running' THEN o.expires_at <= {clock}
              WHEN 'uncertain' THEN s.restartable AND coalesce(o.fingerprint = s.ask_fingerprint, true)
              ELSE o.retain_until <= {clock}
          END
    FOR UPDATE OF o SKIP LOCKED
), doubted AS (
    -- Whoever sees an expired claim first writes that nobody knows (O5).
    UPDATE {schema}.once o
    SET state = 'uncertain', uncertain_at = coalesce(k.uncertain_at, k.expires_at), reason = $10::text
    FROM locked k
    WHERE o.namespace = k.namespace AND o.key = k.key AND k.state = 'running' AND NOT k.grantable
), taken AS (
    UPDATE {schema}.once o
    SET state = 'running', token = greatest(k.token + 1, (extract(epoch FROM k.now) * 1000000)::bigint),
        owner = k.ask_owner, session = k.ask_session, attempts = k.attempts + 1, fingerprint = k.ask_fingerprint,
        claimed_at = k.now,
        expires_at = least(k.now + k.ask_ttl_ms * interval '1 millisecond',
                           k.now + k.ask_hard_ttl_ms * interval '1 millisecond'),
        hard_expires_at = k.now + k.ask_hard_ttl_ms * interval '1 millisecond',
        ttl_ms = k.ask_ttl_ms, retain_ms = k.ask_retain_ms, finished_at = NULL, retain_until = NULL, late = false,
        body = NULL, content_type = NULL, body_size = NULL, untold = false,
        -- Whoever runs what is in doubt once more inherits the doubt, until there is an outcome.
        uncertain_at = CASE
            WHEN k.state = 'running' THEN least(coalesce(k.uncertain_at, k.expires_at), k.now)
            WHEN k.state = 'uncertain' THEN least(k.uncertain_at, k.now)
        END,
        reason = CASE k.state WHEN 'running' THEN $10::text WHEN 'uncertain' THEN k.reason END
    FROM (SELECT locked.*, {clock} AS now FROM locked WHERE locked.grantable) k
    WHERE o.namespace = k.namespace AND o.key = k.key
    RETURNING o.namespace, o.key, o.token, o.owner, o.attempts, o.claimed_at, o.expires_at, o.hard_expires_at,
              o.uncertain_at, o.reason, k.state AS ended_state, k.token AS ended_token
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
    SELECT a.namespace, a.key, 'running', (extract(epoch FROM a.now) * 1000000)::bigint, a.ask_owner, a.ask_session,
           1, a.ask_fingerprint, a.now,
           least(a.now + a.ask_ttl_ms * interval '1 millisecond', a.now + a.ask_hard_ttl_ms * interval '1 millisecond'),
           a.now + a.ask_hard_ttl_ms * interval '1 millisecond', a.ask_ttl_ms, a.ask_retain_ms, false
    FROM (SELECT s.namespace, s.key, s.ask_owner, s.ask_session, s.ask_ttl_ms, s.ask_hard_ttl_ms, s.ask_retain_ms,
                 s.ask_fingerprint, {clock} AS now
          FROM seen s
          WHERE s.token IS NULL) a
    ON CONFLICT DO NOTHING
    RETURNING namespace, key, token, attempts, claimed_at, expires_at, hard_expires_at
)
SELECT false AS granted, s.namespace, s.key, s.now, s.state, s.token, s.owner, s.session, s.attempts, s.fingerprint,
       s.claimed_at, s.expires_at, s.hard_expires_at, s.ttl_ms, s.retain_ms, s.uncertain_at, s.finished_at,
       s.retain_until, s.late, CASE WHEN NOT s.movable THEN s.body END AS body, s.content_type, s.body_size, s.reason
FROM seen s
WHERE s.token IS NOT NULL
UNION ALL
SELECT true, t.namespace, t.key, t.claimed_at, NULL, t.token, NULL, NULL, t.attempts, NULL, t.claimed_at, t.expires_at,
       t.hard_expires_at, NULL, NULL, t.uncertain_at, NULL, NULL, NULL, NULL, NULL, NULL, t.reason
FROM taken t
UNION ALL
SELECT true, m.namespace, m.key, m.claimed_at, NULL, m.token, NULL, NULL, m.attempts, NULL, m.claimed_at, m.expires_at,
       m.hard_expires_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM made m
