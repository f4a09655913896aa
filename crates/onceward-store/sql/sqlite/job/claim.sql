-- job.claim, under the write lock; `ready` is asked of a reader before, so that an empty lane costs no lock. One delete
-- of a lane's row and one read by the rowid per job, and one row for the claim.
--
-- again   ?1 claim. What an earlier send of the same claim took.
-- closed  ?1 namespace, ?2 queue. Whether it is paused, and whether it is limited; no row: neither.
-- ready   ?1 namespace, ?2 queue, ?3 kind, ?4 route, ?5 alone. Whether the lane holds anything.
-- front   as ready, ?6 how many. The first rows of a lane, in its order: the primary key.
-- ageing  ?1 namespace, ?2 queue. How much waiting counts as one priority, if any does.
-- rank    as ready, ?6 rank. The next rank in the lane.
-- of_rank as front, ?7 rank. The first rows of one rank.
-- take_of_rank as take. The rows of this rank up to this row.
-- take    as ready, ?6 rank, ?7 run_at, ?8 id. A lane up to this row, in one stroke: nobody has come between.
-- read    ?1 place.
-- find    ?1 namespace, ?2 id. Where it is not at its place any more.
-- claim   ?1 claim, ?2 namespace, ?3 session, ?4 token, ?5 wall clock now, ?6 the ids of the jobs, 16 bytes each.

-- step: again
SELECT id, namespace, session, token, claimed_at, jobs FROM onceward_job_claim WHERE id = ?1

-- step: closed
SELECT paused_at IS NOT NULL, limits_at IS NOT NULL FROM onceward_job_queue WHERE namespace = ?1 AND queue = ?2

-- step: ready
SELECT EXISTS (
    SELECT 1 FROM onceward_job_ready WHERE namespace = ?1 AND queue = ?2 AND kind = ?3 AND route = ?4 AND alone = ?5
)

-- step: front
SELECT rank, run_at, id, job
FROM onceward_job_ready
WHERE namespace = ?1 AND queue = ?2 AND kind = ?3 AND route = ?4 AND alone = ?5
ORDER BY rank, run_at, id
LIMIT ?6

-- step: ageing
SELECT ageing_us FROM onceward_job_queue WHERE namespace = ?1 AND queue = ?2

-- step: rank
SELECT rank
FROM onceward_job_ready
WHERE namespace = ?1 AND queue = ?2 AND kind = ?3 AND route = ?4 AND alone = ?5 AND rank > ?6
ORDER BY rank
LIMIT 1

-- step: of_rank
SELECT rank, run_at, id, job
FROM onceward_job_ready
WHERE namespace = ?1 AND queue = ?2 AND kind = ?3 AND route = ?4 AND alone = ?5 AND rank = ?7
ORDER BY rank, run_at, id
LIMIT ?6

-- step: take_of_rank
DELETE FROM onceward_job_ready
WHERE namespace = ?1 AND queue = ?2 AND kind = ?3 AND route = ?4 AND alone = ?5 AND rank = ?6
    AND (run_at, id) <= (?7, ?8)

-- step: take
DELETE FROM onceward_job_ready
WHERE namespace = ?1 AND queue = ?2 AND kind = ?3 AND route = ?4 AND alone = ?5
    AND (rank, run_at, id) <= (?6, ?7, ?8)

-- step: read
SELECT place, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, payload, content_type,
    spec, begun, attempted_at, finished_at, worker, error, result, result_type, result_size, past
FROM onceward_job
WHERE place = ?1

-- step: find
SELECT place, namespace, id, kind, queue, priority, state, token, attempt, lost, enqueued_at, run_at, payload, content_type,
    spec, begun, attempted_at, finished_at, worker, error, result, result_type, result_size, past
FROM onceward_job
WHERE namespace = ?1 AND id = ?2

-- step: claim
INSERT INTO onceward_job_claim (id, namespace, session, token, claimed_at, jobs) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
