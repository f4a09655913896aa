-- prune: forget jobs that are over, a bounded number of rows of each kind. Never what is uncertain.
--
-- done  ?1 the first number in job_done that may not be forgotten yet, ?2 how many. The left edge of the primary key.
-- dead  ?1 wall clock before which, ?2 how many. By onceward_job_dead.
-- keys  ?1 wall clock now, ?2 how many. By onceward_job_key_expires.

-- step: done
DELETE FROM onceward_job_done
WHERE place IN (SELECT place FROM onceward_job_done WHERE place < ?1 ORDER BY place LIMIT ?2)

-- step: dead
DELETE FROM onceward_job
WHERE place IN (
    SELECT place FROM onceward_job WHERE state = 'dead' AND finished_at <= ?1 ORDER BY finished_at LIMIT ?2
)

-- step: keys
DELETE FROM onceward_job_key
WHERE (namespace, purpose, key) IN (
    SELECT namespace, purpose, key FROM onceward_job_key WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
)
