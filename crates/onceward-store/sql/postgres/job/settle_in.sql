-- job.settle_in: records how an attempt ended in the caller's own transaction, under the same guard as job.settle. It
-- changes its own job and nothing else: what its session has claimed otherwise stays as it is.
--
-- $1 namespace  $2 id (as text)  $3 fence  $4 token  $5 started_at  $6 worker  $7 state  $8 attempt  $9 lost  $10 delay_us
-- $11 error  $12 result  $13 result_type  $14 result_size  $15 past  $16 alone  $17 retain_us  $18 session (as text); times
-- in microseconds since 1970
-- One row: the state it has now; NULL if nothing was recorded: then its token and state (NULL: it is gone, or over; looking
-- into the partitions of what is over would lock all of them for the caller). A token that would do and nothing recorded:
-- the row has just been written; ask again.
-- The session is locked for key share, so that a rescue passes over it until the caller's transaction has ended. Waits
-- at most 40 ms for a lock, then fails with 55P03; the caller's own lock_timeout is put back by the same statement (and
-- by a rollback, should it fail).
-- Indexes: session_pkey (id), job_pkey, job_key_pkey, job_gate_pkey, job_cancel_pkey.

WITH setting AS MATERIALIZED (
    SELECT b.lock_timeout, set_config('lock_timeout', '40ms', true)
    FROM (SELECT current_setting('lock_timeout') AS lock_timeout OFFSET 0) b
), alive AS MATERIALIZED (
    SELECT s.id
    FROM setting
    JOIN {schema}.session s ON s.id = $18::text::uuid
    FOR KEY SHARE OF s
), ask AS MATERIALIZED (
    SELECT $1::text AS namespace, $2::text::uuid AS id, $3::bigint AS fence, $4::bigint AS token,
           timestamptz 'epoch' + $5::bigint * interval '1 microsecond' AS started_at, $6::text AS worker,
           $7::text AS state, $8::bigint::integer AS attempt, $9::bigint::integer AS lost, $10::bigint AS delay_us,
           $11::text AS error, $12::bytea AS result, $13::text AS result_type, $14::bigint AS result_size,
           $15::text AS past, $16::boolean AS alone, $17::bigint AS retain_us, 1 AS n,
           (SELECT count(*) FROM alive) AS sessions
    FROM setting
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
    FOR UPDATE OF j
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
        past = h.past, called_off = NULL
    FROM now h
    WHERE j.ctid = h.place AND h.next NOT IN ('succeeded', 'cancelled')
    RETURNING j.namespace, j.queue, j.kind, coalesce(j.route, '') AS route, j.priority, j.run_at, j.id, j.token,
              j.ctid AS place, j.state, j.ordering_key, h.alone,
              coalesce(h.delay_us, 0) <= 0 AS due
), ready AS (
    -- One of an ordering key stays let through until it has ended.
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(s.route, hashtextextended(s.kind, hashtextextended(s.queue,
               hashtextextended(s.namespace, 0)))),
           s.namespace, s.queue, s.kind, s.route, s.alone, - s.priority, s.run_at, s.id, s.token, s.place
    FROM stays s
    WHERE s.state = 'ready' OR s.due AND s.state IN ('scheduled', 'retrying')
), later AS (
    INSERT INTO {schema}.job_later (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
    SELECT s.namespace, s.queue, s.kind, s.route, - s.priority, s.run_at, s.id, s.token, s.place, s.ordering_key
    FROM stays s
    WHERE s.state IN ('scheduled', 'retrying') AND NOT s.due
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
), heard AS (
    DELETE FROM {schema}.job_cancel c
    USING now h
    WHERE h.called_off IS NOT NULL AND c.namespace = h.namespace AND c.id = h.id
), ended AS (
    SELECT h.namespace, h.id, h.token, h.now, h.next AS state, h.kind, h.queue, h.spec,
           CASE WHEN h.next <> h.state THEN coalesce(h.error, h.called_off) ELSE h.error END AS error, h.payload
    FROM now h
), {overheard}, outcome AS (
    -- One row whatever there is; complete before the setting is put back.
    SELECT max(h.next) AS state FROM now h
), seen AS MATERIALIZED (
    SELECT j.token, j.state
    FROM ask a
    JOIN {schema}.job j ON j.namespace = a.namespace AND j.id = a.id
)
SELECT o.state, seen.token, seen.state, set_config('lock_timeout', setting.lock_timeout, true) AS lock_timeout
FROM setting
CROSS JOIN outcome o
LEFT JOIN seen ON true
