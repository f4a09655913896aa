-- upkeep.prune_jobs: forgets jobs that are over. Never anything that waits, runs or is uncertain (G16). Rows that somebody
-- has locked stay for the next time.
--
-- rotate: makes the partitions of the coming days, and drops those whose day has passed.
-- The others: one row, how many rows went.
-- done: $1 limit. What is to be forgotten and lies in no partition that will be dropped.
-- some_done: $1 limit  $2 namespace  $3 queue  $4 kind  $5 state (NULL: any). What is to be forgotten of these, wherever it
--   lies. Reads the tables.
-- dead: $1 limit  $2 how long they are kept where their queues say nothing, in microseconds  $3 namespace  $4 queue
--   $5 kind (NULL: any). Index: job_wanted
-- keys: $1 limit. Reads the table: an index on times would be written with every key.
-- count_done, count_dead, count_keys: as some_done, dead and keys; how many there are, up to the limit. Nothing is changed.

-- step: rotate
SELECT {schema}.rotate_jobs()::text

-- step: done
WITH over AS MATERIALIZED (
    SELECT d.ctid AS place
    FROM {schema}.job_done_rest d
    WHERE d.forget_at <= {clock}
    LIMIT $1::bigint
    FOR UPDATE OF d SKIP LOCKED
), gone AS (
    DELETE FROM {schema}.job_done_rest d
    USING over
    WHERE d.ctid = over.place
    RETURNING 1
)
SELECT count(*) FROM gone

-- step: some_done
WITH over AS MATERIALIZED (
    SELECT d.tableoid AS part, d.ctid AS place
    FROM {schema}.job_done d
    WHERE d.forget_at <= {clock} AND ($2::text IS NULL OR d.namespace = $2::text)
      AND ($3::text IS NULL OR d.queue = $3::text) AND ($4::text IS NULL OR d.kind = $4::text)
      AND ($5::text IS NULL OR d.state = $5::text)
    LIMIT $1::bigint
    FOR UPDATE OF d SKIP LOCKED
), gone AS (
    DELETE FROM {schema}.job_done d
    USING over
    WHERE d.tableoid = over.part AND d.ctid = over.place
    RETURNING 1
)
SELECT count(*) FROM gone

-- step: count_done
SELECT count(*)
FROM (
    SELECT
    FROM {schema}.job_done d
    WHERE d.forget_at <= {clock} AND ($2::text IS NULL OR d.namespace = $2::text)
      AND ($3::text IS NULL OR d.queue = $3::text) AND ($4::text IS NULL OR d.kind = $4::text)
      AND ($5::text IS NULL OR d.state = $5::text)
    LIMIT $1::bigint
) d

-- step: dead
WITH over AS MATERIALIZED (
    SELECT j.namespace, j.id, j.token
    FROM {schema}.job j
    LEFT JOIN {schema}.job_queue q ON q.namespace = j.namespace AND q.queue = j.queue
    WHERE j.state = 'dead'
      AND j.finished_at <= {clock} - coalesce(q.retain_dead_us, $2::bigint) * interval '1 microsecond'
      AND ($3::text IS NULL OR j.namespace = $3::text) AND ($4::text IS NULL OR j.queue = $4::text)
      AND ($5::text IS NULL OR j.kind = $5::text)
    LIMIT $1::bigint
    FOR UPDATE OF j SKIP LOCKED
), gone AS (
    DELETE FROM {schema}.job j
    USING over
    WHERE j.namespace = over.namespace AND j.id = over.id AND j.token = over.token
    RETURNING 1
)
SELECT count(*) FROM gone

-- step: count_dead
SELECT count(*)
FROM (
    SELECT
    FROM {schema}.job j
    LEFT JOIN {schema}.job_queue q ON q.namespace = j.namespace AND q.queue = j.queue
    WHERE j.state = 'dead'
      AND j.finished_at <= {clock} - coalesce(q.retain_dead_us, $2::bigint) * interval '1 microsecond'
      AND ($3::text IS NULL OR j.namespace = $3::text) AND ($4::text IS NULL OR j.queue = $4::text)
      AND ($5::text IS NULL OR j.kind = $5::text)
    LIMIT $1::bigint
) j

-- step: keys
WITH over AS MATERIALIZED (
    SELECT k.namespace, k.purpose, k.key,
           k.purpose = 'idempotency'
           AND EXISTS (SELECT FROM {schema}.job j
                       WHERE j.namespace = k.namespace AND j.id = k.id
                         AND j.state || '' <> 'dead') AS lives
    FROM {schema}.job_key k
    WHERE k.expires_at <= {clock}
    LIMIT $1::bigint
    FOR UPDATE OF k SKIP LOCKED
), kept AS (
    -- It lasts at least as long as its job: that is looked at again tomorrow.
    UPDATE {schema}.job_key k
    SET expires_at = {clock} + interval '1 day'
    FROM over
    WHERE over.lives AND k.namespace = over.namespace AND k.purpose = over.purpose AND k.key = over.key
), gone AS (
    DELETE FROM {schema}.job_key k
    USING over
    WHERE NOT over.lives AND k.namespace = over.namespace AND k.purpose = over.purpose AND k.key = over.key
    RETURNING 1
)
SELECT count(*) FROM gone

-- step: count_keys
SELECT count(*)
FROM (
    SELECT
    FROM {schema}.job_key k
    WHERE k.expires_at <= {clock}
      AND (k.purpose <> 'idempotency'
           OR NOT EXISTS (SELECT FROM {schema}.job j
                          WHERE j.namespace = k.namespace AND j.id = k.id AND j.state || '' <> 'dead'))
    LIMIT $1::bigint
) k
