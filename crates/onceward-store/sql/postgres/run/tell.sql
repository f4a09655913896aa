-- run.tell: signals and cancellations, for runs that have not ended.
--
-- $1 namespace[]  $2 run[]  $3 id[]  $4 word[]  $5 name[]  $6 data[]
-- Rows: n (place in the arrays, from 1), the state of the run, its queue, whether it is paused; none of a run that is not there. What is told
--   again stays as it was.
-- Indexes: job_pkey, job_done_of_id, run_inbox_pkey.

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
)
SELECT s.n, s.state, s.queue, s.paused FROM seen s
