-- job.enqueue_in: writes a job in the caller's own transaction: it is there when that commits (J1). What a newcomer wants
-- of the job that has its dedupe key is done by the step replace of job.enqueue.
--
-- waiting: a job that may wait. $1 namespace  $2 id (as text)
--   Rows: token, attempt, spec; none if it has ended.
-- existing: the state of the job that a key belongs to. $1 namespace  $2 id (as text)
--   Rows: its state, as written; none if it is gone.
-- enqueue
-- $1 namespace  $2 id (as text)  $3 kind  $4 queue  $5 priority  $6 payload  $7 content_type  $8 spec  $9 route  $10 due in
-- microseconds: since 1970, or from now on if negative; NULL is at once  $11 ordering_key  $12 idempotency key
-- $13 fingerprint  $14 its ttl_ms  $15 dedupe key  $16 its ttl_ms  $17 until_started  $18 until_done
-- One row: whether it is there, the job of its idempotency key (as text), whether that one has the same fingerprint, the
-- job of its dedupe key; the latter three NULL where a key is free, and as they were before; the number of the
-- transaction. A job that is not there and has no key in the way met a transaction that this one can't see.
-- A second transaction that wants a key waits at most 40 ms for the first one to end, then fails with 55P03; the caller's
-- own lock_timeout is put back by the same statement (and by a rollback, should it fail). No NOTIFY, no other lock.
-- Indexes: job_pkey, job_key_pkey, job_done_of_id.

-- step: waiting
SELECT j.token, j.attempt::bigint, j.spec
FROM {schema}.job j
WHERE j.namespace = $1::text AND j.id = $2::text::uuid AND j.state IN ('scheduled', 'ready', 'retrying')

-- step: existing
SELECT j.state
FROM {schema}.job j
WHERE j.namespace = $1::text AND j.id = $2::text::uuid
UNION ALL
SELECT d.state
FROM {schema}.job_done d
WHERE d.namespace = $1::text AND d.id = $2::text::uuid
LIMIT 1

-- step: enqueue
WITH setting AS MATERIALIZED (
    SELECT b.lock_timeout, set_config('lock_timeout', '40ms', true)
    FROM (SELECT current_setting('lock_timeout') AS lock_timeout OFFSET 0) b
), ask AS MATERIALIZED (
    SELECT a.*, CASE WHEN a.due IS NULL THEN a.now
                     WHEN a.due < 0 THEN a.now - a.due * interval '1 microsecond'
                     ELSE timestamptz 'epoch' + a.due * interval '1 microsecond' END AS run_at
    FROM (
        SELECT $1::text AS namespace, $2::text::uuid AS id, $3::text AS kind, $4::text AS queue,
               $5::bigint::smallint AS priority, $6::bytea AS payload, $7::text AS content_type, $8::text AS spec,
               $9::text AS route, $10::bigint AS due, $11::text AS ordering_key, $12::text AS key,
               $13::bytea AS fingerprint, $14::bigint AS key_ttl_ms, $15::text AS dedupe_key,
               $16::bigint AS dedupe_ttl_ms, $17::boolean AS until_started, $18::boolean AS until_done, 1 AS n,
               {clock} AS now
        FROM setting
        OFFSET 0
    ) a
), seen AS MATERIALIZED (
    SELECT a.*, EXISTS (SELECT FROM {schema}.job j WHERE j.namespace = a.namespace AND j.id = a.id) AS known,
           k.id AS key_id, coalesce(k.fingerprint = a.fingerprint, false) AS same,
           -- It lasts at least as long as its job.
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
    WHERE NOT s.known AND (s.key_id IS NULL OR s.key_over) AND (s.dedupe_id IS NULL OR s.dedupe_over)
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
), {ordered_lanes}, outcome AS (
    -- One row; complete before the setting is put back.
    SELECT bool_or(s.known) OR (SELECT count(*) FROM made) > 0 AS present,
           max(CASE WHEN NOT s.key_over THEN s.key_id::text END) AS key_id, bool_or(s.same) AS same,
           max(CASE WHEN NOT s.dedupe_over THEN s.dedupe_id::text END) AS dedupe_id
    FROM seen s
)
SELECT o.present, o.key_id, o.same, o.dedupe_id, pg_current_xact_id()::text AS transaction,
       set_config('lock_timeout', setting.lock_timeout, true) AS lock_timeout
FROM setting
CROSS JOIN outcome o
