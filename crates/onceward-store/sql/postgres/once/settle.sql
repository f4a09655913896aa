-- once.settle: records how functions ended, while the token is the row's and no outcome is recorded (O2, O7).
--
-- $1 namespace[]  $2 key[]  $3 token[]  $4 state[]  $5 event[]  $6 body[]  $7 content_type[]  $8 body_size[]
-- $9 reason[]; one key each, sorted by (namespace, key)
-- Rows: n (place in the arrays, from 1), late; only of what was recorded. Look up the others to learn why not.
-- Index: once_pkey (namespace, key).

WITH setting AS MATERIALIZED (
    SELECT set_config('lock_timeout', '40ms', true)
), ask AS MATERIALIZED (
    SELECT a.*
    FROM setting, unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::text[],
                         $8::bigint[], $9::text[]) WITH ORDINALITY
        AS a (namespace, key, token, state, event, body, content_type, body_size, reason, n)
), settled AS (
    UPDATE {schema}.once o
    SET state = a.state, late = o.expires_at <= a.now, body = a.body, content_type = a.content_type,
        body_size = a.body_size, reason = a.reason,
        uncertain_at = CASE WHEN a.state = 'uncertain' THEN a.now ELSE o.uncertain_at END,
        finished_at = CASE WHEN a.state <> 'uncertain' THEN a.now END,
        retain_until = CASE WHEN a.state <> 'uncertain' THEN a.now + o.retain_ms * interval '1 millisecond' END
    FROM (SELECT ask.*, {clock} AS now FROM ask) a
    WHERE o.namespace = a.namespace AND o.key = a.key AND o.token = a.token
      -- Doubt does not overwrite doubt: the first reason stays.
      AND (o.state = 'running' OR (o.state = 'uncertain' AND a.state <> 'uncertain'))
    -- A row that was uncertain before keeps the time of it, and its history has told of the claim already.
    RETURNING a.n, o.namespace, o.key, o.token, o.owner, o.late, o.reason, a.event, a.now,
              CASE WHEN a.state = 'uncertain' OR o.uncertain_at IS NULL THEN o.claimed_at END AS claimed_at
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
    SELECT 'once', s.namespace, s.key, s.event, s.token, s.owner, s.now, s.reason, s.claimed_at
    FROM settled s
)
SELECT s.n, s.late
FROM settled s
