-- queue.limit_keys: sets how many jobs of one ordering key a queue lets in at the same time. By the primary keys.
--
-- set   ?1 namespace, ?2 queue, ?3 how many, ?4 wall clock now, ?5 actor.
-- line  ?1 namespace, ?2 ordering key. The next key under which somebody waits.

-- step: set
INSERT INTO onceward_job_queue (namespace, queue, key_concurrency, keys_at, keys_by) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (namespace, queue) DO UPDATE SET key_concurrency = ?3, keys_at = ?4, keys_by = ?5

-- step: line
SELECT ordering_key FROM onceward_job_held WHERE namespace = ?1 AND ordering_key > ?2 ORDER BY ordering_key LIMIT 1
