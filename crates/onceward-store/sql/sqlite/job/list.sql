-- job.list: pages of one namespace, the newest first, without payloads and results.
--
-- namespaces  ?1 namespace. The next one that has or had jobs: the edges of two indexes.
-- live        ?1 namespace, ?2 before which id. By onceward_job_id.
-- over        as live. By onceward_job_done_id.
-- wanted      as live, ?3 state (dead or uncertain). By onceward_job_wanted.
-- paused      as live. By onceward_job_paused.

-- step: namespaces
SELECT min(namespace)
FROM (
    SELECT min(namespace) AS namespace FROM onceward_job WHERE namespace > ?1
    UNION ALL
    SELECT min(namespace) FROM onceward_job_done WHERE namespace > ?1
)

-- step: live
SELECT place, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, x'', content_type,
    spec, begun, attempted_at, finished_at, worker, error, NULL, result_type, result_size, past,
    paused_at, paused_by, pause_reason
FROM onceward_job
WHERE namespace = ?1 AND id < ?2
ORDER BY id DESC

-- step: over
SELECT NULL, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, x'', content_type,
    spec, begun, attempted_at, finished_at, worker, error, NULL, result_type, result_size, past,
    NULL, NULL, NULL
FROM onceward_job_done
WHERE namespace = ?1 AND id < ?2
ORDER BY id DESC

-- step: wanted
SELECT place, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, x'', content_type,
    spec, begun, attempted_at, finished_at, worker, error, NULL, result_type, result_size, past,
    paused_at, paused_by, pause_reason
FROM onceward_job INDEXED BY onceward_job_wanted
WHERE namespace = ?1 AND id < ?2 AND state = ?3 AND state IN ('dead', 'uncertain')
ORDER BY id DESC

-- step: paused
SELECT place, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, x'', content_type,
    spec, begun, attempted_at, finished_at, worker, error, NULL, result_type, result_size, past,
    paused_at, paused_by, pause_reason
FROM onceward_job INDEXED BY onceward_job_paused
WHERE namespace = ?1 AND id < ?2 AND paused_at IS NOT NULL
ORDER BY id DESC
