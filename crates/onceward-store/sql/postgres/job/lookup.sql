-- job.lookup: reads jobs, with payloads, results, and who runs them.
--
-- $1 namespace[]  $2 id[]
-- Rows: n (place in the arrays, from 1; 0 in the first row, which has only now), now, the columns of the job, then claim,
-- session, token, time and owner of whoever runs it, and since when it is paused, by whom and why.
-- Indexes: job_pkey, job_done_of_id. Whoever runs a job is found in the claims, which are few.

WITH ask AS MATERIALIZED (
    SELECT a.*
    FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS a (namespace, id, n)
), open AS MATERIALIZED (
    SELECT a.n, j.*, j.ctid AS place
    FROM ask a
    JOIN {schema}.job j ON j.namespace = a.namespace AND j.id = a.id
), running AS MATERIALIZED (
    SELECT o.n, c.id AS claim, c.session, c.token, c.claimed_at, coalesce(s.owner, '') AS owner
    FROM {schema}.job_claim c
    JOIN open o ON o.namespace = c.namespace AND o.id = ANY (c.jobs) AND o.token < c.token
    LEFT JOIN {schema}.session s ON s.id = c.session
    WHERE o.state NOT IN ('dead', 'uncertain')
)
SELECT 0::bigint AS n, {clock} AS now,
       NULL AS namespace, NULL::uuid AS id, NULL AS kind, NULL AS queue, NULL::smallint AS priority, NULL AS state,
       NULL::bigint AS token, NULL::integer AS attempt, NULL::integer AS lost, NULL::timestamptz AS enqueued_at,
       NULL::timestamptz AS run_at, NULL::bytea AS payload, NULL AS content_type, NULL AS spec, NULL::bigint AS begun,
       NULL::timestamptz AS attempted_at, NULL::timestamptz AS finished_at, NULL AS worker, NULL AS error,
       NULL::bytea AS result, NULL AS result_type, NULL::bigint AS result_size, NULL AS past, NULL::tid AS place,
       NULL::uuid AS claim, NULL::uuid AS session, NULL::bigint AS running, NULL::timestamptz AS since, NULL AS owner,
       NULL::timestamptz AS paused_at, NULL AS paused_by, NULL AS pause_reason
UNION ALL
SELECT o.n, NULL,
       o.namespace, o.id, o.kind, o.queue, o.priority, o.state, o.token, o.attempt, o.lost, o.enqueued_at, o.run_at,
       o.payload, o.content_type, o.spec, o.begun, o.attempted_at, o.finished_at, o.worker, o.error, o.result,
       o.result_type, o.result_size, o.past, o.place, r.claim, r.session, r.token, r.claimed_at, r.owner,
       o.paused_at, o.paused_by, o.pause_reason
FROM open o
LEFT JOIN running r ON r.n = o.n
UNION ALL
SELECT a.n, NULL,
       d.namespace, d.id, d.kind, d.queue, d.priority, d.state, d.token, d.attempt, d.lost, d.enqueued_at, d.run_at,
       d.payload, d.content_type, d.spec, d.begun, d.attempted_at, d.finished_at, d.worker, d.error, d.result,
       d.result_type, d.result_size, d.past, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM ask a
JOIN {schema}.job_done d ON d.namespace = a.namespace AND d.id = a.id
