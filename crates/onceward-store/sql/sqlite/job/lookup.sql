-- job.lookup: a job, wherever it is, and the claims, which are few. By onceward_job_id and onceward_job_done_id.
--
-- live    ?1 namespace, ?2 id.
-- over    ?1 namespace, ?2 id.
-- claims  Every claim, with the owner of its session.

-- step: live
SELECT place, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, payload, content_type,
    spec, begun, attempted_at, finished_at, worker, error, result, result_type, result_size, past,
    paused_at, paused_by, pause_reason
FROM onceward_job
WHERE namespace = ?1 AND id = ?2

-- step: over
SELECT NULL, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, payload, content_type,
    spec, begun, attempted_at, finished_at, worker, error, result, result_type, result_size, past,
    NULL, NULL, NULL
FROM onceward_job_done
WHERE namespace = ?1 AND id = ?2

-- step: claims
SELECT claim.id, claim.namespace, claim.session, claim.token, claim.claimed_at, claim.jobs, session.owner
FROM onceward_job_claim AS claim
LEFT JOIN onceward_session AS session ON session.id = claim.session
