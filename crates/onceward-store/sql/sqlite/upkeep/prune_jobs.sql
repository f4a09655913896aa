-- prune: forget jobs that are over, a bounded number of rows of each kind. Never what is uncertain.
--
-- done  ?1 the first number in job_done that may not be forgotten yet, ?2 how many. The left edge of the primary key.
-- dead  ?1 wall clock before which, ?2 how many. By onceward_job_dead.
-- kept  ?1 wall clock now, ?2 how many, ?3 wall clock then. Idempotency keys last at least as long as their jobs: those
--       are looked at again then. By onceward_job_key_expires, and onceward_job_id.
-- keys  ?1 wall clock now, ?2 how many. By onceward_job_key_expires.

-- step: done
DELETE FROM onceward_job_done
WHERE place IN (SELECT place FROM onceward_job_done WHERE place < ?1 ORDER BY place LIMIT ?2)

-- step: dead
DELETE FROM onceward_job
WHERE place IN (
    SELECT place FROM onceward_job WHERE state = 'dead' AND finished_at <= ?1 ORDER BY finished_at LIMIT ?2
)

-- step: kept
UPDATE onceward_job_key
SET expires_at = ?3
WHERE (namespace, purpose, key) IN (
    SELECT k.namespace, k.purpose, k.key
    FROM onceward_job_key AS k
    JOIN onceward_job AS j ON j.namespace = k.namespace AND j.id = k.id AND j.state NOT IN ('dead', 'uncertain')
    WHERE k.expires_at <= ?1 AND k.purpose = 'idempotency'
    ORDER BY k.expires_at LIMIT ?2
)

-- step: keys
DELETE FROM onceward_job_key
WHERE (namespace, purpose, key) IN (
    SELECT namespace, purpose, key FROM onceward_job_key WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
)
