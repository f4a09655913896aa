-- job.lanes: the lanes in which jobs are ready, except paused queues' and those of jobs that are claimed alone.
--
-- $1 namespace  $2 queue[]
-- Rows: queue, kind, route.
-- Index: job_ready_lane (lane, alone, …), from one lane to the next, however many jobs wait.

WITH RECURSIVE lane (lane, namespace, queue, kind, route) AS (
    (SELECT r.lane, r.namespace, r.queue, r.kind, r.route
     FROM {schema}.job_ready r
     WHERE NOT r.alone
     ORDER BY r.lane, r.alone
     LIMIT 1)
    UNION ALL
    SELECT n.*
    FROM lane l
    CROSS JOIN LATERAL (
        SELECT r.lane, r.namespace, r.queue, r.kind, r.route
        FROM {schema}.job_ready r
        WHERE r.lane > l.lane AND NOT r.alone
        ORDER BY r.lane, r.alone
        LIMIT 1
    ) n
)
SELECT l.queue, l.kind, l.route
FROM lane l
WHERE l.namespace = $1::text AND l.queue = ANY ($2::text[])
  AND NOT EXISTS (SELECT FROM {schema}.job_queue q
                  WHERE q.namespace = l.namespace AND q.queue = l.queue AND q.paused_at IS NOT NULL)
