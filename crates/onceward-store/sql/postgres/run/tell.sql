-- run.tell: signals and cancellations, for runs that have not ended; one that is parked is ready with that.
--
-- $1 namespace[]  $2 run[]  $3 id[]  $4 word[]  $5 name[]  $6 data[]
-- Rows: n (place in the arrays, from 1), the state of the run as it was, its queue, whether it is paused, and whether
--   it was parked and is ready; none of a run that is not there. What is told again stays as it was.
-- A run that parks meanwhile is not seen, nor one that somebody else has: run.wake finds them, once this is committed.
-- Indexes: job_pkey, job_done_of_id, run_inbox_pkey, job_later_due (run_at, id).

WITH seen AS MATERIALIZED (
    SELECT a.*, t.now, s.state, s.queue, s.paused
    FROM (SELECT {clock} AS now OFFSET 0) t,
         unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bytea[]) WITH ORDINALITY
             AS a (namespace, run, id, word, name, data, n)
    CROSS JOIN LATERAL (
        SELECT j.state, j.queue, j.paused_at IS NOT NULL AS paused
        FROM {schema}.job j
        WHERE j.namespace = a.namespace AND j.id = a.run
        UNION ALL
        SELECT d.state, d.queue, false
        FROM {schema}.job_done d
        WHERE d.namespace = a.namespace AND d.id = a.run
    ) s
), told AS (
    INSERT INTO {schema}.run_inbox (namespace, run, id, at, word, name, data)
    SELECT s.namespace, s.run, s.id, s.now, s.word, s.name, s.data
    FROM seen s
    WHERE s.state IN ('scheduled', 'ready', 'retrying')
    ON CONFLICT (namespace, run, id) DO NOTHING
    RETURNING namespace, run, at
), parked AS MATERIALIZED (
    SELECT l.ctid AS at, j.ctid AS place, t.at AS now
    FROM (SELECT DISTINCT namespace, run, at FROM told) t
    JOIN {schema}.job j ON j.namespace = t.namespace AND j.id = t.run
    JOIN {schema}.job_later l ON l.run_at = j.run_at AND l.id = j.id AND l.namespace = j.namespace
    -- One that was never taken up waits for its time, and for nothing else.
    WHERE j.state = 'scheduled' AND j.attempted_at IS NOT NULL AND j.paused_at IS NULL
    FOR UPDATE OF l, j SKIP LOCKED
), {woken}
SELECT s.n, s.state, s.queue, s.paused,
       EXISTS (SELECT FROM woken w WHERE w.namespace = s.namespace AND w.id = s.run) AS woken
FROM seen s
