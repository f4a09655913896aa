-- queue.list: the queues of a namespace that hold something or are set to something, by name. Nothing is counted beyond
-- a bound: each lane is looked at separately, and no further than that.
--
-- $1 namespace  $2 up to where is counted
-- Rows: queue, paused_at, paused_by, pause_reason, concurrency, rate_count, rate_us, burst, limits_at, limits_by,
-- key_concurrency, keys_at, keys_by, ageing, retain and retain_dead in microseconds, tuned_at, tuned_by, the permits that are held, ready, later, running, the oldest run_at, kinds.
-- Indexes: job_ready_lane, from one lane to the next; job_later_due.

WITH RECURSIVE lane (lane, alone, namespace, queue, kind) AS (
    (SELECT r.lane, r.alone, r.namespace, r.queue, r.kind
     FROM {schema}.job_ready r
     ORDER BY r.lane, r.alone
     LIMIT 1)
    UNION ALL
    SELECT n.*
    FROM lane l
    CROSS JOIN LATERAL (
        SELECT r.lane, r.alone, r.namespace, r.queue, r.kind
        FROM {schema}.job_ready r
        WHERE (r.lane, r.alone) > (l.lane, l.alone)
        ORDER BY r.lane, r.alone
        LIMIT 1
    ) n
), ready AS MATERIALIZED (
    SELECT l.queue, l.kind, c.jobs, c.oldest
    FROM lane l
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs, min(f.run_at) AS oldest
        FROM (SELECT r.run_at
              FROM {schema}.job_ready r
              WHERE r.lane = l.lane AND r.alone = l.alone AND r.namespace = l.namespace AND r.queue = l.queue
                AND r.kind = l.kind
              ORDER BY r.lane, r.alone, r.rank, r.run_at
              LIMIT $2::bigint) f
    ) c
    WHERE l.namespace = $1::text
), later AS MATERIALIZED (
    -- Those that wait for an earlier one of their ordering key are not due yet either.
    SELECT f.queue, count(*) AS jobs
    FROM ((SELECT l.namespace, l.queue FROM {schema}.job_later l ORDER BY l.run_at LIMIT 10 * $2::bigint)
          UNION ALL
          (SELECT h.namespace, h.queue FROM {schema}.job_held h LIMIT 10 * $2::bigint)) f
    WHERE f.namespace = $1::text
    GROUP BY f.queue
), running AS MATERIALIZED (
    SELECT j.queue, count(*) AS jobs
    FROM {schema}.job_claim c
    CROSS JOIN LATERAL unnest(c.jobs) AS held (id)
    JOIN {schema}.job j ON j.namespace = c.namespace AND j.id = held.id AND j.token < c.token
    WHERE c.namespace = $1::text AND j.state NOT IN ('dead', 'uncertain')
    GROUP BY j.queue
), known AS (
    SELECT ready.queue FROM ready
    UNION
    SELECT later.queue FROM later
    UNION
    SELECT running.queue FROM running
    UNION
    SELECT q.queue FROM {schema}.job_queue q WHERE q.namespace = $1::text
)
SELECT k.queue, q.paused_at, q.paused_by, q.pause_reason,
       q.concurrency, q.rate_count, q.rate_us, q.burst, q.limits_at, q.limits_by,
       coalesce(q.key_concurrency, 1), q.keys_at, q.keys_by,
       q.ageing_us, q.retain_us, q.retain_dead_us, q.tuned_at, q.tuned_by,
       coalesce((SELECT sum(p.held) FROM {schema}.job_permit p
                 WHERE p.namespace = $1::text AND p.queue = k.queue AND p.setting = q.setting), 0)::bigint,
       least(coalesce((SELECT sum(r.jobs) FROM ready r WHERE r.queue = k.queue), 0), $2::bigint)::bigint,
       least(coalesce((SELECT l.jobs FROM later l WHERE l.queue = k.queue), 0), $2::bigint),
       coalesce((SELECT r.jobs FROM running r WHERE r.queue = k.queue), 0),
       (SELECT min(r.oldest) FROM ready r WHERE r.queue = k.queue),
       ARRAY (SELECT DISTINCT r.kind FROM ready r WHERE r.queue = k.queue ORDER BY 1)
FROM known k
LEFT JOIN {schema}.job_queue q ON q.namespace = $1::text AND q.queue = k.queue
ORDER BY k.queue
