-- queue.list: the queues of a namespace, and what waits in each, counted up to a bound.
--
-- set     ?1 namespace. Queues that were set to something. By the primary key.
-- ready   ?1 namespace, ?2 queue. The next queue in which something waits. By the primary key of the lanes.
-- later   as ready. The same for what is not due yet. By onceward_job_later_queue.
-- count   ?1 namespace, ?2 queue, ?3 at most. How many wait for a worker.
-- due     as count. How many wait for their time.
-- oldest  ?1 namespace, ?2 queue, ?3 kind, ?4 route, ?5 alone, ?6 rank. The first of the next part of the queue in which
--         all have one rank: that has waited longest there. By the primary key.
-- runs    ?1 namespace, ?2 id, ?3 token. The queue of a job that runs under a claim with this token.

-- step: set
SELECT queue, paused_at, paused_by, pause_reason, concurrency, rate_count, rate_us, burst, limits_at, limits_by,
    coalesce(key_concurrency, 1), keys_at, keys_by,
    (
        SELECT coalesce(sum(p.held), 0)
        FROM onceward_job_permit AS p
        WHERE p.namespace = q.namespace AND p.queue = q.queue AND p.setting = q.setting
    ),
    ageing_us, retain_us, retain_dead_us, tuned_at, tuned_by
FROM onceward_job_queue AS q
WHERE namespace = ?1
ORDER BY queue

-- step: ready
SELECT queue FROM onceward_job_ready WHERE namespace = ?1 AND queue > ?2 ORDER BY queue LIMIT 1

-- step: later
SELECT queue FROM onceward_job_later WHERE namespace = ?1 AND queue > ?2 ORDER BY queue LIMIT 1

-- step: count
SELECT count(*) FROM (SELECT 1 FROM onceward_job_ready WHERE namespace = ?1 AND queue = ?2 LIMIT ?3)

-- step: due
SELECT count(*) FROM (SELECT 1 FROM onceward_job_later WHERE namespace = ?1 AND queue = ?2 LIMIT ?3)

-- step: oldest
SELECT kind, route, alone, rank, run_at
FROM onceward_job_ready
WHERE namespace = ?1 AND queue = ?2 AND (kind, route, alone, rank) > (?3, ?4, ?5, ?6)
ORDER BY kind, route, alone, rank, run_at
LIMIT 1

-- step: runs
SELECT queue
FROM onceward_job
WHERE namespace = ?1 AND id = ?2 AND token < ?3 AND state NOT IN ('dead', 'uncertain')
