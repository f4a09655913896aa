-- once.settle: records how functions ended, while the token is the row's and no outcome is recorded (O2, O7).
--
-- outcome: an outcome of a claim that nobody ever doubted, whose row lies where it was written. The row tells of it
--          itself, until it is overwritten: no row of history; and no indexed column changes, so the update is HOT.
--          The parameters $1 to $9. Without an index: the place names the row, and names and token decide.
-- doubt:   everything else. $1 to $8, and the event in $9. Index: once_pkey (namespace, key).
--
-- $1 namespace[]  $2 key[]  $3 token[]  $4 state[]  $5 body[]  $6 content_type[]  $7 body_size[]  $8 reason[]
-- $9 place[] or event[]; one key each, sorted by (namespace, key)
-- Rows: n (place in the arrays, from 1), late; only of what was recorded. Look up the others to learn why not.

-- step: outcome
{bound}
UPDATE {schema}.once o
SET state = a.state, late = o.expires_at <= a.now, body = a.body, content_type = a.content_type,
    body_size = a.body_size, reason = a.reason, finished_at = a.now,
    retain_until = a.now + o.retain_ms * interval '1 millisecond', untold = true
FROM (
    SELECT a.*, {clock} AS now
    FROM {bounded}unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bytea[], $6::text[], $7::bigint[],
                         $8::text[], $9::tid[]) WITH ORDINALITY
        AS a (namespace, key, token, state, body, content_type, body_size, reason, place, n)
) a
WHERE o.ctid = a.place AND o.namespace = a.namespace AND o.key = a.key AND o.token = a.token AND o.state = 'running'
  AND o.uncertain_at IS NULL
RETURNING a.n, o.late

-- step: doubt
{bound}WITH ask AS MATERIALIZED (
    SELECT a.*
    FROM {bounded}unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bytea[], $6::text[], $7::bigint[],
                         $8::text[], $9::text[]) WITH ORDINALITY
        AS a (namespace, key, token, asked_state, body, content_type, body_size, reason, event, n)
), held AS MATERIALIZED (
    SELECT a.*, o.state AS ended_state, o.owner, o.claimed_at, o.reason AS doubt,
           -- That this run did nothing says nothing of the run before it.
           CASE WHEN a.asked_state = 'released' AND o.uncertain_at <= o.claimed_at THEN 'uncertain'
                ELSE a.asked_state END AS state
    FROM ask a
    JOIN {schema}.once o ON o.namespace = a.namespace AND o.key = a.key
    WHERE o.token = a.token AND o.state IN ('running', 'uncertain')
    FOR NO KEY UPDATE OF o
), settled AS (
    UPDATE {schema}.once o
    SET state = h.state, late = o.expires_at <= h.now, body = h.body, content_type = h.content_type,
        body_size = h.body_size, reason = CASE WHEN h.state = h.asked_state THEN h.reason ELSE h.doubt END,
        uncertain_at = CASE WHEN h.state = 'uncertain' THEN coalesce(o.uncertain_at, h.now) ELSE o.uncertain_at END,
        finished_at = CASE WHEN h.state <> 'uncertain' THEN h.now END,
        retain_until = CASE WHEN h.state <> 'uncertain' THEN h.now + o.retain_ms * interval '1 millisecond' END
    FROM (SELECT held.*, {clock} AS now FROM held) h
    -- Doubt does not overwrite doubt: the first reason stays.
    WHERE o.namespace = h.namespace AND o.key = h.key AND (h.ended_state = 'running' OR h.state <> 'uncertain')
    RETURNING h.*, o.late
), told AS (
    INSERT INTO {schema}.history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
    SELECT 'once', s.namespace, s.key, s.event, s.token, s.owner, s.now, s.reason,
           CASE WHEN s.ended_state = 'running' THEN s.claimed_at END
    FROM settled s
)
SELECT s.n, s.late
FROM settled s
