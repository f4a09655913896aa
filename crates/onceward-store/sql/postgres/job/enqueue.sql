-- job.enqueue: writes jobs, each with a row where it waits.
--
-- new: jobs of which nobody has heard before, without keys. What many jobs of a batch have in common is said once, in
--   shapes.
--   $1 namespace[]  $2 kind[]  $3 queue[]  $4 priority[]  $5 content_type[]  $6 route[]; of one shape each
--   $7 shape[] (from 1)  $8 id[]  $9 payload[]  $10 spec[]  $11 due[]; of one job each, sorted by id. due is in
--   microseconds: since 1970, or from now on if negative; NULL is at once.
--   Rows: one. An id that is there already fails it with 23505.
-- handed: as new, of one namespace; what is due, and whose queue is neither paused nor limited, is claimed at once and
--   goes into no lane.
--   $1 to $11 as above  $12 session  $13 claim  $14 namespace
--   Rows: the token and the time of the claim, id and place; one of each job that was claimed. A claim that is there
--   already fails it with 23505 as well.
-- now: what time it is, for jobs that are due at once and are written by more than one statement. Rows: one.
-- any: what has keys, and what goes with it. A job is written if it has all its keys afterwards.
--   $1 namespace[]  $2 kind[]  $3 queue[]  $4 priority[]  $5 content_type[]  $6 route[]  $7 id[]  $8 payload[]
--   $9 spec[]  $10 due[]  $11 ordering_key[]  $12 idempotency key[]  $13 fingerprint[]  $14 its ttl_ms[]
--   $15 dedupe key[]  $16 its ttl_ms[]  $17 until_started[]  $18 until_done[]; of one job each, sorted by id
--   Rows: n (place in the arrays, from 1), whether it was written, the job of its idempotency key, whether that one has the
--   same fingerprint, the job of its dedupe key; the latter three NULL where a key is free, and as they were before.
--   A job that was not written and has no key in the way is there already, or lost a race: ask again, after left.
-- left: lets go of a key that was got while the other one was not. $1 namespace  $2 idempotency key  $3 dedupe key  $4 id
-- replace: gives a job that still waits what a newcomer says, or its time.
--   $1 namespace  $2 id  $3 its token  $4 payload (NULL: all but the time stays)  $5 content_type  $6 spec  $7 route
--   $8 due, as above  $9 whether the time changes
--   Rows: one if it still waited.
-- lanes, ordered_lanes: where jobs that were written wait, by made: namespace, id, kind, queue, priority, state, run_at,
--   route, place; and ordering_key. Parts of the others, also of those of enqueue_in, run.append and schedule.write.
-- What may have been sent before is looked for first, by the step why of job.settle.
-- Indexes: job_pkey, job_key_pkey; job_ready_lane, job_later_due and job_held_of_key for one row.

-- step: new
{bound}WITH made AS (
    INSERT INTO {schema}.job (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                              payload, content_type, spec, route)
    SELECT ($1::text[])[a.shape], a.id, ($2::text[])[a.shape], ($3::text[])[a.shape], ($4::smallint[])[a.shape],
           CASE WHEN a.run_at > a.now THEN 'scheduled' ELSE 'ready' END, 0, 0, 0, a.now, a.run_at, a.payload,
           ($5::text[])[a.shape], a.spec, ($6::text[])[a.shape]
    FROM (
        SELECT a.*, CASE WHEN a.due IS NULL THEN t.now
                         WHEN a.due < 0 THEN t.now - a.due * interval '1 microsecond'
                         ELSE timestamptz 'epoch' + a.due * interval '1 microsecond' END AS run_at, t.now
        FROM {bounded}(SELECT {clock} AS now OFFSET 0) t,
             unnest($7::integer[], $8::uuid[], $9::bytea[], $10::text[], $11::bigint[])
                 AS a (shape, id, payload, spec, due)
    ) a
    RETURNING namespace, id, kind, queue, priority, state, run_at, coalesce(route, '') AS route, ctid AS place
), {lanes}
SELECT true

-- step: now
SELECT {clock} AS now

-- step: handed
{bound}WITH made AS (
    INSERT INTO {schema}.job (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                              payload, content_type, spec, route)
    SELECT ($1::text[])[a.shape], a.id, ($2::text[])[a.shape], ($3::text[])[a.shape], ($4::smallint[])[a.shape],
           CASE WHEN a.run_at > a.now THEN 'scheduled' ELSE 'ready' END, 0, 0, 0, a.now, a.run_at, a.payload,
           ($5::text[])[a.shape], a.spec, ($6::text[])[a.shape]
    FROM (
        SELECT a.*, CASE WHEN a.due IS NULL THEN t.now
                         WHEN a.due < 0 THEN t.now - a.due * interval '1 microsecond'
                         ELSE timestamptz 'epoch' + a.due * interval '1 microsecond' END AS run_at, t.now
        FROM {bounded}(SELECT {clock} AS now OFFSET 0) t,
             unnest($7::integer[], $8::uuid[], $9::bytea[], $10::text[], $11::bigint[])
                 AS a (shape, id, payload, spec, due)
    ) a
    RETURNING namespace, id, kind, queue, priority, state, enqueued_at, run_at, coalesce(route, '') AS route, ctid AS place
), placed AS MATERIALIZED (
    SELECT m.*,
           m.state = 'ready'
           AND NOT EXISTS (SELECT FROM {schema}.job_queue q
                           WHERE q.namespace = m.namespace AND q.queue = m.queue
                             AND (q.paused_at IS NOT NULL OR q.limits_at IS NOT NULL)) AS taken
    FROM made m
), ready AS (
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(m.route, hashtextextended(m.kind, hashtextextended(m.queue,
               hashtextextended(m.namespace, 0)))),
           m.namespace, m.queue, m.kind, m.route, false, - m.priority, m.run_at, m.id, 0, m.place
    FROM placed m
    WHERE m.state = 'ready' AND NOT m.taken
), later AS (
    INSERT INTO {schema}.job_later (namespace, queue, kind, route, rank, run_at, id, token, place)
    SELECT m.namespace, m.queue, m.kind, m.route, - m.priority, m.run_at, m.id, 0, m.place
    FROM placed m
    WHERE m.state = 'scheduled'
), claimed AS (
    INSERT INTO {schema}.job_claim (id, namespace, session, token, claimed_at, jobs)
    SELECT $13::uuid, $14::text, $12::uuid, (extract(epoch FROM t.now) * 1000000)::bigint, t.now, t.jobs
    FROM (SELECT max(p.enqueued_at) AS now, array_agg(p.id ORDER BY - p.priority, p.run_at, p.id) AS jobs
          FROM placed p WHERE p.taken HAVING count(*) > 0) t
    RETURNING token, claimed_at
)
SELECT c.token, c.claimed_at, p.id, p.place
FROM claimed c
JOIN placed p ON p.taken

-- step: any
{bound}WITH ask AS MATERIALIZED (
    SELECT a.*, CASE WHEN a.due IS NULL THEN t.now
                     WHEN a.due < 0 THEN t.now - a.due * interval '1 microsecond'
                     ELSE timestamptz 'epoch' + a.due * interval '1 microsecond' END AS run_at, t.now
    FROM {bounded}(SELECT {clock} AS now OFFSET 0) t,
         unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::uuid[], $8::bytea[],
                $9::text[], $10::bigint[], $11::text[], $12::text[], $13::bytea[], $14::bigint[], $15::text[],
                $16::bigint[], $17::boolean[], $18::boolean[]) WITH ORDINALITY
             AS a (namespace, kind, queue, priority, content_type, route, id, payload, spec, due, ordering_key, key,
                   fingerprint, key_ttl_ms, dedupe_key, dedupe_ttl_ms, until_started, until_done, n)
), seen AS MATERIALIZED (
    SELECT a.*,
           k.id AS key_id, coalesce(k.fingerprint = a.fingerprint, false) AS same,
           -- It lasts at least as long as its job, which goes on until somebody says how it was if it is uncertain.
           k.expires_at <= a.now
           AND NOT EXISTS (SELECT FROM {schema}.job j
                           WHERE j.namespace = k.namespace AND j.id = k.id
                             AND j.state || '' <> 'dead') AS key_over,
           d.id AS dedupe_id, coalesce(d.expires_at <= a.now, false) AS dedupe_over
    FROM ask a
    LEFT JOIN {schema}.job_key k
        ON k.namespace = a.namespace AND k.purpose = 'idempotency' AND k.key = a.key
    LEFT JOIN {schema}.job_key d
        ON d.namespace = a.namespace AND d.purpose = 'dedupe' AND d.key = a.dedupe_key
), fresh AS MATERIALIZED (
    SELECT s.*
    FROM seen s
    WHERE (s.key_id IS NULL OR s.key_over) AND (s.dedupe_id IS NULL OR s.dedupe_over)
), wanted AS MATERIALIZED (
    SELECT w.*
    FROM (
        SELECT f.n, f.namespace, 'idempotency' AS purpose, f.key, f.id, f.fingerprint, f.key_id AS old,
               f.now + f.key_ttl_ms * interval '1 millisecond' AS expires_at, false AS until_started, f.now
        FROM fresh f
        WHERE f.key IS NOT NULL
        UNION ALL
        SELECT f.n, f.namespace, 'dedupe', f.dedupe_key, f.id, NULL, f.dedupe_id,
               f.now + f.dedupe_ttl_ms * interval '1 millisecond', f.until_started, f.now
        FROM fresh f
        WHERE f.dedupe_key IS NOT NULL
    ) w
    ORDER BY w.namespace, w.purpose, w.key
), taken AS (
    UPDATE {schema}.job_key k
    SET id = w.id, fingerprint = w.fingerprint, expires_at = w.expires_at, until_started = w.until_started
    FROM wanted w
    WHERE k.namespace = w.namespace AND k.purpose = w.purpose AND k.key = w.key AND k.id = w.old
      AND k.expires_at <= w.now
    RETURNING w.n, k.purpose
), made_key AS (
    INSERT INTO {schema}.job_key (namespace, purpose, key, id, fingerprint, expires_at, until_started)
    SELECT w.namespace, w.purpose, w.key, w.id, w.fingerprint, w.expires_at, w.until_started
    FROM wanted w
    WHERE w.old IS NULL
    ON CONFLICT DO NOTHING
    RETURNING namespace, purpose, key, id
), made AS (
    INSERT INTO {schema}.job (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                              payload, content_type, spec, route, ordering_key, dedupe_key)
    SELECT f.namespace, f.id, f.kind, f.queue, f.priority,
           CASE WHEN f.run_at > f.now THEN 'scheduled' ELSE 'ready' END, 0, 0, 0, f.now, f.run_at, f.payload,
           f.content_type, f.spec, f.route, f.ordering_key,
           CASE WHEN f.until_started OR f.until_done THEN f.dedupe_key END
    FROM fresh f
    WHERE (f.key IS NULL
           OR EXISTS (SELECT FROM taken t WHERE t.n = f.n AND t.purpose = 'idempotency')
           OR EXISTS (SELECT FROM made_key m WHERE m.id = f.id AND m.purpose = 'idempotency'))
      AND (f.dedupe_key IS NULL
           OR EXISTS (SELECT FROM taken t WHERE t.n = f.n AND t.purpose = 'dedupe')
           OR EXISTS (SELECT FROM made_key m WHERE m.id = f.id AND m.purpose = 'dedupe'))
    ON CONFLICT DO NOTHING
    RETURNING namespace, id, kind, queue, priority, state, run_at, coalesce(route, '') AS route, ordering_key,
              ctid AS place
), {ordered_lanes}
SELECT s.n, EXISTS (SELECT FROM made m WHERE m.id = s.id AND m.namespace = s.namespace) AS made,
       CASE WHEN NOT s.key_over THEN s.key_id END AS key_id, s.same,
       CASE WHEN NOT s.dedupe_over THEN s.dedupe_id END AS dedupe_id
FROM seen s

-- step: left
WITH a AS MATERIALIZED (
    SELECT $1::text AS namespace, 'idempotency' AS purpose, $2::text AS key, $4::uuid AS id
    UNION ALL
    SELECT $1::text, 'dedupe', $3::text, $4::uuid
)
DELETE FROM {schema}.job_key k
USING a
WHERE k.namespace = a.namespace AND k.purpose = a.purpose AND k.key = a.key AND k.id = a.id
  AND NOT EXISTS (SELECT FROM {schema}.job j WHERE j.namespace = $1::text AND j.id = $4::uuid)

-- step: replace
{bound}WITH held AS MATERIALIZED (
    SELECT j.ctid AS place, j.namespace, j.id, j.kind, j.queue, j.priority, coalesce(j.route, '') AS route,
           j.ordering_key, j.run_at, j.token, {clock} AS now
    FROM {bounded}{schema}.job j
    WHERE j.namespace = $1::text AND j.id = $2::uuid AND j.token = $3::bigint
      AND j.state IN ('scheduled', 'ready', 'retrying')
    FOR UPDATE OF j SKIP LOCKED
), from_ready AS (
    DELETE FROM {schema}.job_ready r
    USING held h
    WHERE r.lane = hashtextextended(h.route, hashtextextended(h.kind, hashtextextended(h.queue,
                       hashtextextended(h.namespace, 0))))
      AND r.alone IN (false, true) AND r.rank = - h.priority AND r.run_at = h.run_at AND r.id = h.id
      AND r.namespace = h.namespace
    RETURNING r.alone
), from_later AS (
    DELETE FROM {schema}.job_later l
    USING held h
    WHERE l.run_at = h.run_at AND l.id = h.id AND l.namespace = h.namespace
    RETURNING false AS alone
), from_held AS (
    DELETE FROM {schema}.job_held w
    USING held h
    WHERE w.namespace = h.namespace AND w.ordering_key = h.ordering_key AND w.rank = - h.priority
      AND w.run_at = h.run_at AND w.id = h.id
    RETURNING false AS alone
), waited AS MATERIALIZED (
    SELECT from_ready.alone, 'ready' AS lane FROM from_ready
    UNION ALL
    SELECT from_later.alone, 'later' FROM from_later
    UNION ALL
    SELECT from_held.alone, 'held' FROM from_held
), changed AS (
    UPDATE {schema}.job j
    SET payload = coalesce($4::bytea, j.payload),
        content_type = CASE WHEN $4::bytea IS NULL THEN j.content_type ELSE $5::text END,
        spec = CASE WHEN $4::bytea IS NULL THEN j.spec ELSE $6::text END,
        route = CASE WHEN $4::bytea IS NULL THEN j.route ELSE $7::text END, run_at = h.due,
        state = CASE WHEN NOT $9::boolean OR j.state = 'retrying' THEN j.state
                     WHEN h.due > h.now THEN 'scheduled' ELSE 'ready' END
    FROM (
        SELECT held.*, waited.alone, waited.lane,
               CASE WHEN NOT $9::boolean THEN held.run_at
                    WHEN $8::bigint IS NULL THEN held.now
                    WHEN $8::bigint < 0 THEN held.now - $8::bigint * interval '1 microsecond'
                    ELSE timestamptz 'epoch' + $8::bigint * interval '1 microsecond' END AS due
        FROM held, waited
    ) h
    WHERE j.ctid = h.place
    RETURNING j.namespace, j.queue, j.kind, coalesce(j.route, '') AS route, j.priority, j.run_at, j.id, j.token, j.ctid AS place,
              j.ordering_key, h.alone, h.lane = 'held' AS was_held,
              CASE WHEN h.due > h.now THEN 'later'
                   -- One that was let through stays so; one that waited for its time goes where its key waits.
                   WHEN j.ordering_key IS NOT NULL AND h.lane <> 'ready'
                        AND NOT EXISTS (SELECT FROM {schema}.job_gate g
                                        WHERE g.namespace = j.namespace AND g.ordering_key = j.ordering_key
                                          AND g.id = j.id) THEN 'held'
                   ELSE 'ready' END AS lane
), ready AS (
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(c.route, hashtextextended(c.kind, hashtextextended(c.queue,
               hashtextextended(c.namespace, 0)))),
           c.namespace, c.queue, c.kind, c.route, c.alone, - c.priority, c.run_at, c.id, c.token, c.place
    FROM changed c
    WHERE c.lane = 'ready'
), later AS (
    INSERT INTO {schema}.job_later (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
    SELECT c.namespace, c.queue, c.kind, c.route, - c.priority, c.run_at, c.id, c.token, c.place, c.ordering_key
    FROM changed c
    WHERE c.lane = 'later'
), again AS (
    INSERT INTO {schema}.job_held (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
    SELECT c.namespace, c.queue, c.kind, c.route, - c.priority, c.run_at, c.id, c.token, c.place, c.ordering_key
    FROM changed c
    WHERE c.lane = 'held'
), arrived AS (
    -- It has come to its line, or may have stood before others there.
    INSERT INTO {schema}.job_arrived (namespace, ordering_key)
    SELECT c.namespace, c.ordering_key
    FROM changed c
    WHERE c.lane = 'held' OR c.was_held
)
SELECT true
FROM changed c

-- step: lanes
ready AS (
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(m.route, hashtextextended(m.kind, hashtextextended(m.queue,
               hashtextextended(m.namespace, 0)))),
           m.namespace, m.queue, m.kind, m.route, false, - m.priority, m.run_at, m.id, 0, m.place
    FROM made m
    WHERE m.state = 'ready'
), later AS (
    INSERT INTO {schema}.job_later (namespace, queue, kind, route, rank, run_at, id, token, place)
    SELECT m.namespace, m.queue, m.kind, m.route, - m.priority, m.run_at, m.id, 0, m.place
    FROM made m
    WHERE m.state = 'scheduled'
)

-- step: ordered_lanes
ready AS (
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(m.route, hashtextextended(m.kind, hashtextextended(m.queue,
               hashtextextended(m.namespace, 0)))),
           m.namespace, m.queue, m.kind, m.route, false, - m.priority, m.run_at, m.id, 0, m.place
    FROM made m
    WHERE m.state = 'ready' AND m.ordering_key IS NULL
), later AS (
    INSERT INTO {schema}.job_later (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
    SELECT m.namespace, m.queue, m.kind, m.route, - m.priority, m.run_at, m.id, 0, m.place, m.ordering_key
    FROM made m
    WHERE m.state = 'scheduled'
), held AS (
    INSERT INTO {schema}.job_held (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
    SELECT m.namespace, m.queue, m.kind, m.route, - m.priority, m.run_at, m.id, 0, m.place, m.ordering_key
    FROM made m
    WHERE m.state = 'ready' AND m.ordering_key IS NOT NULL
), arrived AS (
    INSERT INTO {schema}.job_arrived (namespace, ordering_key)
    SELECT DISTINCT m.namespace, m.ordering_key
    FROM made m
    WHERE m.state = 'ready' AND m.ordering_key IS NOT NULL
)
