-- job.settle: records how attempts ended, while the row's token is smaller than the claim's. What is over leaves the
-- table, and claims of which nothing is left go with the last of their jobs.
--
-- done: successes of jobs that lie where they were claimed, have no keys and were not called off. What many of them have
--   in common is said once, in groups.
--   $1 namespace[]  $2 fence[]  $3 token[]  $4 started_at[]  $5 worker[]  $6 attempt[]  $7 lost[]  $8 retain_us[]; of one
--   group each  $9 group[] (from 1)  $10 id[]  $11 place[]  $12 result[]  $13 result_type[]  $14 result_size[]; of one job
--   each, sorted by (namespace, id); results may be left out altogether  $15 finished claims[]
-- child: the same of jobs that a run waits for, kept or not: $1 to $15 as in done, $16 parent[] of one job each
-- gone: the same of jobs that are not kept: $1 namespace[]  $2 fence[]  $3 group[]  $4 id[]  $5 place[]  $6 finished claims[]
-- Rows of these: one: the places in the arrays, from 1, of what was recorded. The claims go if that is everything.
-- any: everything else
--   $1 namespace[]  $2 id[]  $3 fence[]  $4 token[]  $5 started_at[]  $6 worker[]  $7 state[]  $8 attempt[]  $9 lost[]
--   $10 delay_us[]  $11 error[]  $12 result[]  $13 result_type[]  $14 result_size[]  $15 past[]  $16 alone[]
--   $17 retain_us[]  $18 rescued[]  $19 session[]  $20 begun[]  $21 parent[]; of one job each, sorted by (namespace, id)
--   A rescue names the session that has run out, if there still is one, and what it has seen in begun.
--   Rows: n, the state it has now, its queue, whether jobs of its ordering key may have become free; only of what was recorded.
--   Rows that somebody has locked are passed over.
-- why: what became of jobs. $1 namespace[]  $2 id[]
--   Rows: n, token, state; none of what is gone.
-- closed: $1 finished claims[]; those of which nothing is left go
-- What a trigger listens to is written down by each of these steps: see trigger.overhear.
-- Indexes: places; job_pkey, job_done_of_id, job_key_pkey, job_gate_pkey, job_cancel_pkey, job_claim_pkey, session_pkey.

-- step: done
{bound}WITH over AS (
    DELETE FROM {schema}.job j
    USING (
        SELECT a.*, t.now
        FROM {bounded}(SELECT {clock} AS now OFFSET 0) t,
             unnest($9::integer[], $10::uuid[], $11::tid[], $12::bytea[], $13::text[], $14::bigint[]) WITH ORDINALITY
                 AS a (of, id, place, result, result_type, result_size, n)
    ) a
    WHERE j.ctid = a.place AND j.id = a.id AND j.namespace = ($1::text[])[a.of] AND j.token < ($2::bigint[])[a.of]
      AND j.dedupe_key IS NULL AND j.ordering_key IS NULL AND j.called_off IS NULL
    RETURNING a.n, a.of, a.now, a.result, a.result_type, a.result_size, j.namespace, j.id, j.kind, j.queue, j.priority,
              j.enqueued_at, j.run_at, j.payload, j.content_type, j.spec, j.route, j.begun, j.past
), kept AS (
    INSERT INTO {schema}.job_done (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                                   payload, content_type, spec, route, begun, attempted_at, finished_at, worker, result,
                                   result_type, result_size, past, forget_at)
    SELECT o.namespace, o.id, o.kind, o.queue, o.priority, 'succeeded', ($3::bigint[])[o.of], ($6::integer[])[o.of],
           ($7::integer[])[o.of], o.enqueued_at, o.run_at, o.payload, o.content_type, o.spec, o.route, o.begun,
           ($4::timestamptz[])[o.of], o.now, ($5::text[])[o.of], o.result, o.result_type, o.result_size, o.past,
           o.now + ($8::bigint[])[o.of] * interval '1 microsecond'
    FROM over o
    WHERE ($8::bigint[])[o.of] > 0
), ended AS (
    SELECT o.namespace, o.id, ($3::bigint[])[o.of] AS token, o.now, 'succeeded'::text AS state, o.kind, o.queue, o.spec,
           NULL::text AS error, o.payload
    FROM over o
), {overheard}, closed AS (
    DELETE FROM {schema}.job_claim c
    WHERE c.id = ANY ($15::uuid[]) AND (SELECT count(*) FROM over) = cardinality($10::uuid[])
)
SELECT array_agg(o.n) FROM over o

-- step: child
{bound}WITH over AS (
    DELETE FROM {schema}.job j
    USING (
        SELECT a.*, t.now
        FROM {bounded}(SELECT {clock} AS now OFFSET 0) t,
             unnest($9::integer[], $10::uuid[], $11::tid[], $12::bytea[], $13::text[], $14::bigint[], $16::uuid[])
                 WITH ORDINALITY AS a (of, id, place, result, result_type, result_size, parent, n)
    ) a
    WHERE j.ctid = a.place AND j.id = a.id AND j.namespace = ($1::text[])[a.of] AND j.token < ($2::bigint[])[a.of]
      AND j.dedupe_key IS NULL AND j.ordering_key IS NULL AND j.called_off IS NULL
    RETURNING a.n, a.of, a.now, a.result, a.result_type, a.result_size, a.parent, j.namespace, j.id, j.kind, j.queue, j.priority,
              j.enqueued_at, j.run_at, j.payload, j.content_type, j.spec, j.route, j.begun, j.past
), kept AS (
    INSERT INTO {schema}.job_done (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                                   payload, content_type, spec, route, begun, attempted_at, finished_at, worker, result,
                                   result_type, result_size, past, forget_at)
    SELECT o.namespace, o.id, o.kind, o.queue, o.priority, 'succeeded', ($3::bigint[])[o.of], ($6::integer[])[o.of],
           ($7::integer[])[o.of], o.enqueued_at, o.run_at, o.payload, o.content_type, o.spec, o.route, o.begun,
           ($4::timestamptz[])[o.of], o.now, ($5::text[])[o.of], o.result, o.result_type, o.result_size, o.past,
           o.now + ($8::bigint[])[o.of] * interval '1 microsecond'
    FROM over o
    WHERE ($8::bigint[])[o.of] > 0
), told AS (
    INSERT INTO {schema}.run_inbox (namespace, run, id, at, word, name, data)
    SELECT o.namespace, o.parent, o.id, o.now, 'succeeded', '', o.result
    FROM over o
    ON CONFLICT (namespace, run, id) DO NOTHING
), ended AS (
    SELECT o.namespace, o.id, ($3::bigint[])[o.of] AS token, o.now, 'succeeded'::text AS state, o.kind, o.queue, o.spec,
           NULL::text AS error, o.payload
    FROM over o
), {overheard}, closed AS (
    DELETE FROM {schema}.job_claim c
    WHERE c.id = ANY ($15::uuid[]) AND (SELECT count(*) FROM over) = cardinality($10::uuid[])
)
SELECT array_agg(o.n) FROM over o

-- step: gone
{bound}WITH over AS (
    DELETE FROM {schema}.job j
    USING (
        SELECT a.*
        FROM {bounded}unnest($3::integer[], $4::uuid[], $5::tid[]) WITH ORDINALITY AS a (of, id, place, n)
    ) a
    WHERE j.ctid = a.place AND j.id = a.id AND j.namespace = ($1::text[])[a.of] AND j.token < ($2::bigint[])[a.of]
      AND j.dedupe_key IS NULL AND j.ordering_key IS NULL AND j.called_off IS NULL
    RETURNING a.n, a.of, j.namespace, j.id, j.kind, j.queue, j.spec, j.payload
), ended AS (
    SELECT o.namespace, o.id, ($2::bigint[])[o.of] AS token, {clock} AS now, 'succeeded'::text AS state, o.kind, o.queue, o.spec,
           NULL::text AS error, o.payload
    FROM over o
), {overheard}, closed AS (
    DELETE FROM {schema}.job_claim c
    WHERE c.id = ANY ($6::uuid[]) AND (SELECT count(*) FROM over) = cardinality($4::uuid[])
)
SELECT array_agg(o.n) FROM over o

-- step: any
WITH ask AS MATERIALIZED (
    SELECT a.*
    FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::text[], $7::text[],
                $8::integer[], $9::integer[], $10::bigint[], $11::text[], $12::bytea[], $13::text[], $14::bigint[],
                $15::text[], $16::boolean[], $17::bigint[], $18::boolean[], $19::uuid[], $20::bigint[], $21::uuid[])
        WITH ORDINALITY
        AS a (namespace, id, fence, token, started_at, worker, state, attempt, lost, delay_us, error, result, result_type,
              result_size, past, alone, retain_us, rescued, session, begun, parent, n)
), lost AS MATERIALIZED (
    -- A transaction that settles a job of its own holds the session for key share: it is passed over.
    SELECT s.id
    FROM (SELECT DISTINCT ask.session FROM ask WHERE ask.session IS NOT NULL) a
    JOIN {schema}.session s ON s.id = a.session
    WHERE s.expires_at <= {clock}
    FOR UPDATE OF s SKIP LOCKED
), held AS MATERIALIZED (
    SELECT a.*, j.ctid AS place, j.kind, j.queue, j.priority, j.enqueued_at, j.run_at, j.payload, j.content_type,
           j.spec, j.route, j.ordering_key, j.dedupe_key, j.called_off, j.begun AS begun_before,
           CASE WHEN j.called_off IS NOT NULL AND a.state IN ('scheduled', 'ready', 'retrying') THEN 'cancelled'
                ELSE a.state END AS next
    FROM ask a
    CROSS JOIN LATERAL (
        -- Where this statement's snapshot sees it. One that has moved since is locked where it is now, and can't be
        -- written there by this statement: it is left alone, and asked for again. Not by equality, which would be a
        -- look at that place that is not repeated once the row is locked.
        SELECT b.ctid AS place FROM {schema}.job b WHERE b.namespace = a.namespace AND b.id = a.id OFFSET 0
    ) b
    JOIN {schema}.job j ON j.namespace = a.namespace AND j.id = a.id AND j.ctid IS NOT DISTINCT FROM b.place
    WHERE (j.token < a.fence AND j.state NOT IN ('dead', 'uncertain')
           -- Late evidence about what nobody knew.
           OR (j.token = a.fence AND j.state = 'uncertain' AND a.state IN ('succeeded', 'dead', 'cancelled')))
      AND (NOT a.rescued
           OR (j.begun IS NOT DISTINCT FROM a.begun
               AND (a.session IS NULL OR a.session IN (SELECT lost.id FROM lost))))
    FOR UPDATE OF j SKIP LOCKED
), now AS MATERIALIZED (
    -- The purpose is no constant, so that the planner has to begin with the rows and not with all keys of a purpose.
    SELECT h.*, {clock} AS now, 'dedupe'::text AS purpose FROM held h
), over AS (
    DELETE FROM {schema}.job j
    USING now h
    WHERE j.ctid = h.place AND h.next IN ('succeeded', 'cancelled')
), kept AS (
    INSERT INTO {schema}.job_done (namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at,
                                   payload, content_type, spec, route, ordering_key, begun, attempted_at, finished_at,
                                   worker, error, result, result_type, result_size, past, forget_at)
    SELECT h.namespace, h.id, h.kind, h.queue, h.priority, h.next, h.token, h.attempt, h.lost, h.enqueued_at, h.run_at,
           h.payload, h.content_type, h.spec, h.route, h.ordering_key, h.begun_before, h.started_at, h.now, h.worker,
           CASE WHEN h.next <> h.state THEN coalesce(h.error, h.called_off) ELSE h.error END, h.result, h.result_type,
           h.result_size, h.past,
           h.now + h.retain_us * interval '1 microsecond'
    FROM now h
    WHERE h.next IN ('succeeded', 'cancelled') AND h.retain_us > 0
), stays AS (
    UPDATE {schema}.job j
    SET state = h.next, token = h.token, attempt = h.attempt, lost = h.lost,
        run_at = coalesce(h.now + h.delay_us * interval '1 microsecond', j.run_at), attempted_at = h.started_at,
        finished_at = CASE WHEN h.next IN ('dead', 'uncertain') THEN h.now END, worker = h.worker, error = h.error,
        past = h.past, called_off = NULL,
        -- One that has ended is not paused any more.
        paused_at = CASE WHEN h.next NOT IN ('dead', 'uncertain') THEN j.paused_at END,
        paused_by = CASE WHEN h.next NOT IN ('dead', 'uncertain') THEN j.paused_by END,
        pause_reason = CASE WHEN h.next NOT IN ('dead', 'uncertain') THEN j.pause_reason END,
        -- How a run has failed stands where it has said how far it was.
        result = coalesce(h.result, j.result), result_type = coalesce(h.result_type, j.result_type),
        result_size = coalesce(h.result_size, j.result_size)
    FROM now h
    WHERE j.ctid = h.place AND h.next NOT IN ('succeeded', 'cancelled')
    RETURNING j.namespace, j.queue, j.kind, coalesce(j.route, '') AS route, j.priority, j.run_at, j.id, j.token,
              j.ctid AS place, j.state, j.ordering_key, h.alone,
              -- One that is paused waits in no lane.
              j.paused_at IS NULL AS waits, coalesce(h.delay_us, 0) <= 0 AS due
), ready AS (
    -- One of an ordering key stays let through until it has ended.
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(s.route, hashtextextended(s.kind, hashtextextended(s.queue,
               hashtextextended(s.namespace, 0)))),
           s.namespace, s.queue, s.kind, s.route, s.alone, - s.priority, s.run_at, s.id, s.token, s.place
    FROM stays s
    WHERE s.waits AND (s.state = 'ready' OR s.due AND s.state IN ('scheduled', 'retrying'))
), later AS (
    INSERT INTO {schema}.job_later (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
    SELECT s.namespace, s.queue, s.kind, s.route, - s.priority, s.run_at, s.id, s.token, s.place, s.ordering_key
    FROM stays s
    WHERE s.waits AND s.state IN ('scheduled', 'retrying') AND NOT s.due
), freed AS (
    DELETE FROM {schema}.job_key k
    USING now h
    WHERE h.dedupe_key IS NOT NULL AND h.next IN ('succeeded', 'cancelled', 'dead', 'uncertain')
      AND k.namespace = h.namespace AND k.purpose = h.purpose AND k.key = h.dedupe_key AND k.id = h.id
      AND k.expires_at IS NULL
), let_go AS (
    DELETE FROM {schema}.job_gate g
    USING now h
    WHERE h.ordering_key IS NOT NULL AND h.next IN ('succeeded', 'cancelled', 'dead', 'uncertain')
      AND g.namespace = h.namespace AND g.ordering_key = h.ordering_key AND g.id = h.id
    RETURNING g.namespace, g.ordering_key
), arrived AS (
    INSERT INTO {schema}.job_arrived (namespace, ordering_key)
    SELECT l.namespace, l.ordering_key
    FROM let_go l
), told AS (
    INSERT INTO {schema}.run_inbox (namespace, run, id, at, word, name, data)
    SELECT h.namespace, h.parent, h.id, h.now, h.next,
           coalesce(CASE WHEN h.next <> h.state THEN coalesce(h.error, h.called_off) ELSE h.error END, ''), h.result
    FROM now h
    WHERE h.parent IS NOT NULL AND h.next IN ('succeeded', 'cancelled', 'dead', 'uncertain')
    ON CONFLICT (namespace, run, id) DO NOTHING
), heard AS (
    DELETE FROM {schema}.job_cancel c
    USING now h
    WHERE h.called_off IS NOT NULL AND c.namespace = h.namespace AND c.id = h.id
), ended AS (
    SELECT h.namespace, h.id, h.token, h.now, h.next AS state, h.kind, h.queue, h.spec,
           CASE WHEN h.next <> h.state THEN coalesce(h.error, h.called_off) ELSE h.error END AS error, h.payload
    FROM now h
), {overheard}
SELECT h.n, h.next, h.queue,
       h.ordering_key IS NOT NULL AND h.next IN ('succeeded', 'cancelled', 'dead', 'uncertain') AS frees
FROM now h

-- step: why
SELECT a.n, s.token, s.state
FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS a (namespace, id, n)
CROSS JOIN LATERAL (
    SELECT j.token, j.state
    FROM {schema}.job j
    WHERE j.namespace = a.namespace AND j.id = a.id
    UNION ALL
    SELECT d.token, d.state
    FROM {schema}.job_done d
    WHERE d.namespace = a.namespace AND d.id = a.id
) s

-- step: closed
DELETE FROM {schema}.job_claim c
WHERE c.id = ANY ($1::uuid[])
  -- One look by its key for each of its jobs.
  AND (SELECT bool_or(j.token < c.token)
       FROM unnest(c.jobs) AS held (id)
       CROSS JOIN LATERAL (
           SELECT j.token FROM {schema}.job j WHERE j.namespace = c.namespace AND j.id = held.id OFFSET 0
       ) j) IS NOT TRUE
