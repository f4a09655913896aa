-- job.enqueue, under the write lock. By the primary keys and onceward_job_done_id.
--
-- over     ?1 namespace, ?2 id. Whether the job of this id is over already: then this is a second send.
-- known    ?1 namespace, ?2 id. Whether the job of this id is there: asked of jobs with keys, before the keys are.
-- holder   ?1 namespace, ?2 purpose, ?3 key, ?4 wall clock now. The job that a key belongs to; an idempotency key lasts
--          at least as long as its job.
-- insert   ?1 namespace, ?2 id, ?3 kind, ?4 queue, ?5 priority, ?6 state, ?7 wall clock now, ?8 run_at, ?9 payload,
--          ?10 content_type, ?11 spec. Nothing is changed where the job is there.
-- key      ?1 namespace, ?2 purpose, ?3 key, ?4 id, ?5 fingerprint, ?6 expires_at, ?7 until_started.
-- ready    ?1 namespace, ?2 queue, ?3 kind, ?4 route, ?5 alone, ?6 rank, ?7 run_at, ?8 id, ?9 place. Into its lane.
-- later    ?1 run_at, ?2 id, ?3 namespace, ?4 queue, ?5 place. Until it is due.
-- seated   ?1 namespace, ?2 ordering key, ?3 id. Whether the job was let in under it, and has not ended.
-- seats    ?1 namespace, ?2 ordering key. Of each job that was let in under it, how many its queue lets in.
-- let_in   ?1 namespace, ?2 ordering key, ?3 id.
-- held     ?1 namespace, ?2 ordering key, ?3 rank, ?4 run_at, ?5 id, ?6 alone, ?7 place. Until it is let in.
-- next     ?1 namespace, ?2 ordering key. The next one to be let in: rank, run_at, id, and how many its queue lets in.
-- replace  ?1 place, ?2 payload, ?3 content_type, ?4 spec. A job that waits becomes what a newcomer is.
-- push_out ?1 place, ?2 state, ?3 run_at. A job that waits is due at another time.

-- step: over
SELECT EXISTS (SELECT 1 FROM onceward_job_done WHERE namespace = ?1 AND id = ?2)

-- step: known
SELECT EXISTS (SELECT 1 FROM onceward_job WHERE namespace = ?1 AND id = ?2)

-- step: holder
SELECT id, fingerprint
FROM onceward_job_key AS k
WHERE namespace = ?1 AND purpose = ?2 AND key = ?3
  AND (expires_at IS NULL OR expires_at > ?4
       OR purpose = 'idempotency'
          AND EXISTS (SELECT 1 FROM onceward_job AS j
                      WHERE j.namespace = k.namespace AND j.id = k.id AND j.state <> 'dead'))

-- step: insert
INSERT INTO onceward_job (
    namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, payload, content_type, spec
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT DO NOTHING

-- step: key
INSERT OR REPLACE INTO onceward_job_key (namespace, purpose, key, id, fingerprint, expires_at, until_started)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)

-- step: ready
INSERT OR REPLACE INTO onceward_job_ready (namespace, queue, kind, route, alone, rank, run_at, id, job)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)

-- step: later
INSERT OR REPLACE INTO onceward_job_later (run_at, id, namespace, queue, job) VALUES (?1, ?2, ?3, ?4, ?5)

-- step: seated
SELECT EXISTS (SELECT 1 FROM onceward_job_first WHERE namespace = ?1 AND ordering_key = ?2 AND id = ?3)

-- step: seats
SELECT coalesce(q.key_concurrency, 1)
FROM onceward_job_first AS f
LEFT JOIN onceward_job AS j ON j.namespace = f.namespace AND j.id = f.id
LEFT JOIN onceward_job_queue AS q ON q.namespace = j.namespace AND q.queue = j.queue
WHERE f.namespace = ?1 AND f.ordering_key = ?2

-- step: let_in
INSERT INTO onceward_job_first (namespace, ordering_key, id) VALUES (?1, ?2, ?3)

-- step: held
INSERT OR REPLACE INTO onceward_job_held (namespace, ordering_key, rank, run_at, id, alone, job)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)

-- step: next
SELECT h.rank, h.run_at, h.id, coalesce(q.key_concurrency, 1)
FROM onceward_job_held AS h
LEFT JOIN onceward_job AS j ON j.place = h.job
LEFT JOIN onceward_job_queue AS q ON q.namespace = j.namespace AND q.queue = j.queue
WHERE h.namespace = ?1 AND h.ordering_key = ?2
ORDER BY h.rank, h.run_at, h.id
LIMIT 1

-- step: replace
UPDATE onceward_job SET payload = ?2, content_type = ?3, spec = ?4 WHERE place = ?1

-- step: push_out
UPDATE onceward_job SET state = ?2, run_at = ?3 WHERE place = ?1
