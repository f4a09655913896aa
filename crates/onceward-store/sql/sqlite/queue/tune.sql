-- queue.tune: what a queue is tuned by. By the primary key.
--
-- set   ?1 namespace, ?2 queue, ?3 ageing, ?4 retain, ?5 retain_dead, ?6 wall clock now, ?7 actor. Spans in microseconds;
--       NULL: nothing is said.
-- list  ?1 namespace. The queues that are tuned by anything.

-- step: set
INSERT INTO onceward_job_queue (namespace, queue, ageing_us, retain_us, retain_dead_us, tuned_at, tuned_by)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (namespace, queue)
DO UPDATE SET ageing_us = ?3, retain_us = ?4, retain_dead_us = ?5, tuned_at = ?6, tuned_by = ?7

-- step: list
SELECT queue, ageing_us, retain_us, retain_dead_us
FROM onceward_job_queue
WHERE namespace = ?1 AND (ageing_us IS NOT NULL OR retain_us IS NOT NULL OR retain_dead_us IS NOT NULL)
ORDER BY queue
