-- queue.limit: sets what a queue is limited to, or that it is not. By the primary keys.
--
-- limit  ?1 namespace, ?2 queue, ?3 concurrency, ?4 rate_count, ?5 rate_us, ?6 burst, ?7 limits_at, ?8 limits_by; NULLs
--        lift it.
-- begin  ?1 namespace, ?2 queue, ?3 wall clock now. The starts begin at nothing.
-- void   ?1 namespace, ?2 queue. Permits that were given before.

-- step: limit
INSERT INTO onceward_job_queue (
    namespace, queue, concurrency, rate_count, rate_us, burst, setting, limits_at, limits_by
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8)
ON CONFLICT (namespace, queue) DO UPDATE
SET concurrency = ?3, rate_count = ?4, rate_us = ?5, burst = ?6, setting = setting + 1, limits_at = ?7, limits_by = ?8

-- step: begin
INSERT OR REPLACE INTO onceward_job_limit (namespace, queue, tokens, filled_at, lent, unsettled)
VALUES (?1, ?2, 0, ?3, 0, 1)

-- step: void
DELETE FROM onceward_job_permit WHERE namespace = ?1 AND queue = ?2
