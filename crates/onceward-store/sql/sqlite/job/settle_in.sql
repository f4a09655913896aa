-- job.settle in the caller's own transaction, on the caller's connection: the end of the job commits with its effects.
-- Before this step run `lock` and `waiting` of job/enqueue_in, so that nobody rescues the job until the caller ends; after
-- it those of job/settle that free its keys and let the next one in, or those of job/enqueue that put it where it waits.
--
-- write  ?1 place, ?2 state, ?3 token, ?4 attempt, ?5 lost, ?6 attempted_at, ?7 finished_at, ?8 worker, ?9 error,
--        ?10 result, ?11 result_type, ?12 result_size, ?13 past, ?14 run_at. What a job that goes on has said on
--        its way stays.
-- By the rowid.

-- step: write
UPDATE onceward_job
SET state = ?2, token = ?3, attempt = ?4, lost = ?5, attempted_at = ?6, finished_at = ?7, worker = ?8, error = ?9,
    result = iif(?2 IN ('succeeded', 'cancelled'), ?10, result),
    result_type = iif(?2 IN ('succeeded', 'cancelled'), ?11, result_type),
    result_size = iif(?2 IN ('succeeded', 'cancelled'), ?12, result_size), past = ?13, run_at = ?14
WHERE place = ?1
