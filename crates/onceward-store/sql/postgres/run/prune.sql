-- run.prune: forgets journals of runs that are forgotten, and what has arrived for them.
--
-- $1 namespace and $2 run that were looked at last  $3 how many runs are looked at
-- Rows: how many runs had something and are forgotten now; the namespace and the run that was looked at last (NULL: there
-- are no more).
-- Each look is one step along the index, however long the journal is.
-- Indexes: run_journal_pkey, run_inbox_pkey, job_pkey, job_done_of_id.

WITH RECURSIVE runs AS (
    (SELECT j.namespace, j.run, 1::bigint AS n
     FROM {schema}.run_journal j
     WHERE (j.namespace, j.run) > ($1::text, $2::uuid)
     ORDER BY j.namespace, j.run
     LIMIT 1)
    UNION ALL
    SELECT f.namespace, f.run, r.n + 1
    FROM runs r
    CROSS JOIN LATERAL (
        SELECT j.namespace, j.run
        FROM {schema}.run_journal j
        WHERE (j.namespace, j.run) > (r.namespace, r.run)
        ORDER BY j.namespace, j.run
        LIMIT 1
    ) f
    WHERE r.n < $3::bigint
), others AS (
    SELECT DISTINCT i.namespace, i.run
    FROM {schema}.run_inbox i
    WHERE NOT i.noted
), forgotten AS MATERIALIZED (
    SELECT r.namespace, r.run
    FROM (SELECT r.namespace, r.run FROM runs r UNION SELECT o.namespace, o.run FROM others o) r
    WHERE NOT EXISTS (SELECT FROM {schema}.job j WHERE j.namespace = r.namespace AND j.id = r.run)
      AND NOT EXISTS (SELECT FROM {schema}.job_done d WHERE d.namespace = r.namespace AND d.id = r.run)
), journals AS (
    DELETE FROM {schema}.run_journal j
    USING forgotten f
    WHERE j.namespace = f.namespace AND j.run = f.run
), inboxes AS (
    DELETE FROM {schema}.run_inbox i
    USING forgotten f
    WHERE i.namespace = f.namespace AND i.run = f.run
)
SELECT (SELECT count(*) FROM forgotten), l.namespace, l.run
FROM (SELECT 1) one
LEFT JOIN LATERAL (SELECT r.namespace, r.run FROM runs r WHERE r.n = $3::bigint) l ON true
