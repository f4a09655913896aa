-- job.move: takes a job from where it waits, to put it elsewhere. By the primary keys.
--
-- ready  ?1 namespace, ?2 queue, ?3 kind, ?4 route, ?5 rank, ?6 run_at, ?7 id. From its lane; whether it was claimed alone.
-- later  ?1 run_at, ?2 id, ?3 namespace. As ready.
-- held   ?1 namespace, ?2 ordering key, ?3 rank, ?4 run_at, ?5 id. As ready.
-- note   ?1 namespace, ?2 id, ?3 wall clock now, ?4 actor, ?5 reason. Calls a running job off; the first note stays.
-- mark   ?1 place, ?2 paused_at, ?3 paused_by, ?4 pause_reason. Of a run that somebody runs: pauses it, or not any more.

-- step: ready
DELETE FROM onceward_job_ready
WHERE namespace = ?1 AND queue = ?2 AND kind = ?3 AND route = ?4 AND alone IN (0, 1) AND rank = ?5 AND run_at = ?6
    AND id = ?7
RETURNING alone

-- step: later
DELETE FROM onceward_job_later WHERE run_at = ?1 AND id = ?2 AND namespace = ?3 RETURNING 0

-- step: held
DELETE FROM onceward_job_held
WHERE namespace = ?1 AND ordering_key = ?2 AND rank = ?3 AND run_at = ?4 AND id = ?5
RETURNING alone

-- step: note
INSERT INTO onceward_job_cancel (namespace, id, asked_at, actor, reason) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT DO NOTHING

-- step: mark
UPDATE onceward_job SET paused_at = ?2, paused_by = ?3, pause_reason = ?4 WHERE place = ?1
