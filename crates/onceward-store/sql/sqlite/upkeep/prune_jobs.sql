-- prune: forget jobs that are over, a bounded number of rows of each kind. Never what is uncertain.
--
-- done  ?1 the first number in job_done that may not be forgotten yet, ?2 how many, ?3 namespace, ?4 queue, ?5 kind, ?6
--       state; NULL: any. The left edge of the primary key.
-- dead  ?1 wall clock now, ?2 how many, ?3 namespace, ?4 queue, ?5 kind, ?6 how long they are kept where their queues say
--       nothing, ?7 before which they ended at least. By onceward_job_dead.
-- count_done, count_dead, count_keys  as done, dead and keys: how many there are, up to so many.
-- kept  ?1 wall clock now, ?2 how many, ?3 wall clock then. Idempotency keys last at least as long as their jobs: those
--       are looked at again then. By onceward_job_key_expires, and onceward_job_id.
-- keys  ?1 wall clock now, ?2 how many. By onceward_job_key_expires.
-- dead_kept  The shortest time for which a queue keeps its dead jobs. Reads all queues, of which there are few.

-- step: done
DELETE FROM onceward_job_done
WHERE place IN (
    SELECT place
    FROM onceward_job_done
    WHERE place < ?1 AND (?3 IS NULL OR namespace = ?3) AND (?4 IS NULL OR queue = ?4) AND (?5 IS NULL OR kind = ?5)
        AND (?6 IS NULL OR state = ?6)
    ORDER BY place
    LIMIT ?2
)

-- step: count_done
SELECT count(*)
FROM (
    SELECT 1
    FROM onceward_job_done
    WHERE place < ?1 AND (?3 IS NULL OR namespace = ?3) AND (?4 IS NULL OR queue = ?4) AND (?5 IS NULL OR kind = ?5)
        AND (?6 IS NULL OR state = ?6)
    ORDER BY place
    LIMIT ?2
)

-- step: dead
DELETE FROM onceward_job
WHERE place IN (
    SELECT j.place
    FROM onceward_job AS j
    LEFT JOIN onceward_job_queue AS q ON q.namespace = j.namespace AND q.queue = j.queue
    WHERE j.state = 'dead' AND j.finished_at <= ?7 AND j.finished_at <= ?1 - coalesce(q.retain_dead_us, ?6)
        AND (?3 IS NULL OR j.namespace = ?3) AND (?4 IS NULL OR j.queue = ?4) AND (?5 IS NULL OR j.kind = ?5)
    ORDER BY j.finished_at
    LIMIT ?2
)

-- step: count_dead
SELECT count(*)
FROM (
    SELECT 1
    FROM onceward_job AS j
    LEFT JOIN onceward_job_queue AS q ON q.namespace = j.namespace AND q.queue = j.queue
    WHERE j.state = 'dead' AND j.finished_at <= ?7 AND j.finished_at <= ?1 - coalesce(q.retain_dead_us, ?6)
        AND (?3 IS NULL OR j.namespace = ?3) AND (?4 IS NULL OR j.queue = ?4) AND (?5 IS NULL OR j.kind = ?5)
    ORDER BY j.finished_at
    LIMIT ?2
)

-- step: kept
UPDATE onceward_job_key
SET expires_at = ?3
WHERE (namespace, purpose, key) IN (
    SELECT k.namespace, k.purpose, k.key
    FROM onceward_job_key AS k
    JOIN onceward_job AS j ON j.namespace = k.namespace AND j.id = k.id AND j.state <> 'dead'
    WHERE k.expires_at <= ?1 AND k.purpose = 'idempotency'
    ORDER BY k.expires_at LIMIT ?2
)

-- step: keys
DELETE FROM onceward_job_key
WHERE (namespace, purpose, key) IN (
    SELECT namespace, purpose, key FROM onceward_job_key WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
)

-- step: count_keys
SELECT count(*)
FROM (
    SELECT 1
    FROM onceward_job_key AS k
    WHERE k.expires_at <= ?1
        AND (
            k.purpose <> 'idempotency'
            OR NOT EXISTS (
                SELECT 1 FROM onceward_job AS j WHERE j.namespace = k.namespace AND j.id = k.id AND j.state <> 'dead'
            )
        )
    ORDER BY k.expires_at
    LIMIT ?2
)

-- step: dead_kept
SELECT min(retain_dead_us) FROM onceward_job_queue
