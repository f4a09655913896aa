-- job.settle, under the write lock: how attempts ended. Of a job that nothing hangs on, and that is over: one insert and
-- one delete by the rowid. Everything else is read first, and decided in Rust.
--
-- hanging  Whether anything may hang on the end of a job: somebody has called one off, or one has an ordering key; and
--          whether there is a dedupe key.
-- slot     ?1, ?2 the bounds of a millisecond in which jobs may be forgotten. The last number that is taken there.
-- keep     ?1 the number in job_done, ?2 place, ?3 namespace, ?4 id, ?5 fence, ?6 state, ?7 token, ?8 attempt, ?9 lost,
--          ?10 attempted_at, ?11 finished_at, ?12 worker, ?13 error, ?14 result, ?15 result_type, ?16 result_size,
--          ?17 past. Changes nothing unless the job runs under that fence.
-- remove   ?1 place, ?2 namespace, ?3 id, ?4 fence. As above, of what is not to be kept.
-- delete   ?1 place.
-- read     ?1 namespace, ?2 id. Without payload and result.
-- over     ?1 namespace, ?2 id. The state and the token of a job that is over.
-- write    ?1 place, ?2 state, ?3 token, ?4 attempt, ?5 lost, ?6 attempted_at, ?7 finished_at, ?8 worker, ?9 error,
--          ?10 result, ?11 result_type, ?12 result_size, ?13 past, ?14 run_at, ?15 spec, ?16 begun, ?17 paused_at,
--          ?18 paused_by, ?19 pause_reason.
--          What a job that goes on has said on its way stays, unless it says how it has failed.
-- move     ?1 the number in job_done, ?2 place. A row that has been written, to where jobs are that are over.
-- note     ?1 namespace, ?2 id. Who has called the job off, and why; the note is done with.
-- free     ?1 namespace, ?2 id. Its dedupe key, unless that lasts for a time of its own.
-- leave    ?1 namespace, ?2 ordering key, ?3 id. Gives an ordering key free that the job has.
-- claim    ?1 claim.
-- runs     ?1 namespace, ?2 id, ?3 token. Whether the job runs under a claim with this token.
-- finish   ?1 claim.

-- step: hanging
SELECT EXISTS (SELECT 1 FROM onceward_job_cancel) OR EXISTS (SELECT 1 FROM onceward_job_first),
    EXISTS (SELECT 1 FROM onceward_job_key INDEXED BY onceward_job_key_dedupe WHERE purpose = 'dedupe')

-- step: slot
SELECT max(place) FROM onceward_job_done WHERE place >= ?1 AND place < ?2

-- step: keep
INSERT INTO onceward_job_done (
    place, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, payload,
    content_type, spec, begun, attempted_at, finished_at, worker, error, result, result_type, result_size, past
)
SELECT ?1, namespace, id, kind, queue, priority, ?6, ?7, ?8, ?9, enqueued_at, run_at, payload,
    content_type, spec, begun, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17
FROM onceward_job
WHERE place = ?2 AND namespace = ?3 AND id = ?4 AND token < ?5 AND state NOT IN ('dead', 'uncertain')

-- step: remove
DELETE FROM onceward_job
WHERE place = ?1 AND namespace = ?2 AND id = ?3 AND token < ?4 AND state NOT IN ('dead', 'uncertain')

-- step: delete
DELETE FROM onceward_job WHERE place = ?1

-- step: read
SELECT place, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, x'', content_type,
    spec, begun, attempted_at, finished_at, worker, error, NULL, result_type, result_size, past,
    paused_at, paused_by, pause_reason
FROM onceward_job
WHERE namespace = ?1 AND id = ?2

-- step: over
SELECT state, token FROM onceward_job_done WHERE namespace = ?1 AND id = ?2

-- step: write
UPDATE onceward_job
SET state = ?2, token = ?3, attempt = ?4, lost = ?5, attempted_at = ?6, finished_at = ?7, worker = ?8, error = ?9,
    result = iif(?2 IN ('succeeded', 'cancelled') OR ?11 IS NOT NULL, ?10, result),
    result_type = iif(?2 IN ('succeeded', 'cancelled') OR ?11 IS NOT NULL, ?11, result_type),
    result_size = iif(?2 IN ('succeeded', 'cancelled') OR ?11 IS NOT NULL, ?12, result_size), past = ?13, run_at = ?14, spec = ?15, begun = ?16,
    paused_at = ?17, paused_by = ?18, pause_reason = ?19
WHERE place = ?1

-- step: move
INSERT INTO onceward_job_done
SELECT ?1, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, payload,
    content_type, spec, begun, attempted_at, finished_at, worker, error, result, result_type, result_size, past
FROM onceward_job
WHERE place = ?2

-- step: note
DELETE FROM onceward_job_cancel WHERE namespace = ?1 AND id = ?2 RETURNING actor, reason

-- step: free
DELETE FROM onceward_job_key WHERE namespace = ?1 AND id = ?2 AND purpose = 'dedupe' AND expires_at IS NULL

-- step: leave
DELETE FROM onceward_job_first WHERE namespace = ?1 AND ordering_key = ?2 AND id = ?3 RETURNING id

-- step: claim
SELECT id, namespace, session, token, claimed_at, jobs FROM onceward_job_claim WHERE id = ?1

-- step: runs
SELECT EXISTS (
    SELECT 1
    FROM onceward_job
    WHERE namespace = ?1 AND id = ?2 AND token < ?3 AND state NOT IN ('dead', 'uncertain')
)

-- step: finish
DELETE FROM onceward_job_claim WHERE id = ?1
