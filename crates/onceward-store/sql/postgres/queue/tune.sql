-- queue.tune: what a queue is tuned by.
--
-- set: $1 namespace  $2 queue  $3 ageing  $4 retain  $5 retain_dead, in microseconds (NULL: nothing is said)  $6 actor
-- list: $1 namespace
--   Rows: queue, ageing, retain, retain_dead, as above; of the queues that are tuned by anything, by name.
-- Index: job_queue_pkey (namespace, queue).

-- step: set
INSERT INTO {schema}.job_queue AS q (namespace, queue, ageing_us, retain_us, retain_dead_us, tuned_at, tuned_by)
SELECT $1::text, $2::text, $3::bigint, $4::bigint, $5::bigint, {clock}, $6::text
ON CONFLICT (namespace, queue)
DO UPDATE SET ageing_us = excluded.ageing_us, retain_us = excluded.retain_us, retain_dead_us = excluded.retain_dead_us,
              tuned_at = excluded.tuned_at, tuned_by = excluded.tuned_by

-- step: list
SELECT q.queue, q.ageing_us, q.retain_us, q.retain_dead_us
FROM {schema}.job_queue q
WHERE q.namespace = $1::text
  AND (q.ageing_us IS NOT NULL OR q.retain_us IS NOT NULL OR q.retain_dead_us IS NOT NULL)
ORDER BY q.queue
