-- job.list: a page of jobs, the newest first, without the bytes of payloads and results. NULL parameters filter nothing.
--
-- all:     jobs of every state
-- waiting: those that are written as scheduled, ready or retrying, and that nobody runs
-- running: those of claims
-- wanted:  dead or uncertain ones. Index: job_wanted
-- over:    succeeded or cancelled ones. Index: job_done_of_id
-- paused:  runs that are paused, running ones included. Index: job_paused, which holds no others
--   $1 namespace  $2 state  $3 queue  $4 kind  $5 tag  $6 id to start after  $7 limit
-- Rows: now, the columns of a job, then claim, session, token, time and owner of whoever runs it, and since when it is
-- paused, by whom and why; one row of NULLs if there is none.
-- Indexes: job_pkey, and job_done_of_id, backwards where a namespace is given.

-- step: all
WITH running AS MATERIALIZED (
    SELECT c.namespace, held.id, c.id AS claim, c.session, c.token, c.claimed_at, coalesce(s.owner, '') AS owner
    FROM {schema}.job_claim c
    CROSS JOIN LATERAL unnest(c.jobs) AS held (id)
    LEFT JOIN {schema}.session s ON s.id = c.session
)
SELECT t.now, o.namespace, o.id, o.kind, o.queue, o.priority, o.state, o.token, o.attempt, o.lost, o.enqueued_at, o.run_at,
       ''::bytea AS payload, o.content_type, o.spec, o.begun, o.attempted_at, o.finished_at, o.worker, o.error,
       NULL::bytea AS result, o.result_type, o.result_size, o.past, NULL::tid AS place, o.claim, o.session, o.running,
       o.since, o.owner, o.paused_at, o.paused_by, o.pause_reason
FROM (SELECT {clock} AS now) t
LEFT JOIN LATERAL (
    (SELECT j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at,
               j.run_at, j.content_type, j.spec, j.route, j.begun, j.attempted_at, j.finished_at, j.worker, j.error,
               j.result_type, j.result_size, j.past,
               r.claim, r.session, r.token AS running, r.claimed_at AS since, r.owner,
               j.paused_at, j.paused_by, j.pause_reason
     FROM {schema}.job j
     LEFT JOIN running r ON r.namespace = j.namespace AND r.id = j.id AND r.token > j.token
            AND j.state NOT IN ('dead', 'uncertain')
     WHERE ($1::text IS NULL OR j.namespace = $1::text)
      AND $2::text IS NULL
      AND ($3::text IS NULL OR j.queue = $3::text)
      AND ($4::text IS NULL OR j.kind = $4::text)
      AND ($5::text IS NULL OR $5::text = ANY (string_to_array(j.route, chr(10))))
      AND ($6::uuid IS NULL OR j.id < $6::uuid)
     ORDER BY 2 DESC, 1 DESC
     LIMIT $7::bigint)
    UNION ALL
    (SELECT j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at,
               j.run_at, j.content_type, j.spec, j.route, j.begun, j.attempted_at, j.finished_at, j.worker, j.error,
               j.result_type, j.result_size, j.past,
               NULL::uuid AS claim, NULL::uuid AS session, NULL::bigint AS running,
               NULL::timestamptz AS since, NULL AS owner,
               NULL::timestamptz AS paused_at, NULL AS paused_by, NULL AS pause_reason
     FROM {schema}.job_done j
     WHERE ($1::text IS NULL OR j.namespace = $1::text)
      AND $2::text IS NULL
      AND ($3::text IS NULL OR j.queue = $3::text)
      AND ($4::text IS NULL OR j.kind = $4::text)
      AND ($5::text IS NULL OR $5::text = ANY (string_to_array(j.route, chr(10))))
      AND ($6::uuid IS NULL OR j.id < $6::uuid)
     ORDER BY 2 DESC, 1 DESC
     LIMIT $7::bigint)
    ORDER BY 2 DESC, 1 DESC
    LIMIT $7::bigint
) o ON true
ORDER BY o.id DESC, o.namespace DESC

-- step: waiting
WITH running AS MATERIALIZED (
    SELECT c.namespace, held.id, c.id AS claim, c.session, c.token, c.claimed_at, coalesce(s.owner, '') AS owner
    FROM {schema}.job_claim c
    CROSS JOIN LATERAL unnest(c.jobs) AS held (id)
    LEFT JOIN {schema}.session s ON s.id = c.session
)
SELECT t.now, o.namespace, o.id, o.kind, o.queue, o.priority, o.state, o.token, o.attempt, o.lost, o.enqueued_at, o.run_at,
       ''::bytea AS payload, o.content_type, o.spec, o.begun, o.attempted_at, o.finished_at, o.worker, o.error,
       NULL::bytea AS result, o.result_type, o.result_size, o.past, NULL::tid AS place, o.claim, o.session, o.running,
       o.since, o.owner, o.paused_at, o.paused_by, o.pause_reason
FROM (SELECT {clock} AS now) t
LEFT JOIN LATERAL (
    SELECT j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at,
               j.run_at, j.content_type, j.spec, j.route, j.begun, j.attempted_at, j.finished_at, j.worker, j.error,
               j.result_type, j.result_size, j.past,
               NULL::uuid AS claim, NULL::uuid AS session, NULL::bigint AS running,
               NULL::timestamptz AS since, NULL AS owner,
               j.paused_at, j.paused_by, j.pause_reason
    FROM {schema}.job j
    WHERE ($1::text IS NULL OR j.namespace = $1::text)
      AND j.state = $2::text
      AND ($3::text IS NULL OR j.queue = $3::text)
      AND ($4::text IS NULL OR j.kind = $4::text)
      AND ($5::text IS NULL OR $5::text = ANY (string_to_array(j.route, chr(10))))
      AND ($6::uuid IS NULL OR j.id < $6::uuid)
      AND NOT EXISTS (SELECT FROM running r WHERE r.namespace = j.namespace AND r.id = j.id AND r.token > j.token)
    ORDER BY 2 DESC, 1 DESC
    LIMIT $7::bigint
) o ON true
ORDER BY o.id DESC, o.namespace DESC

-- step: running
WITH running AS MATERIALIZED (
    SELECT c.namespace, held.id, c.id AS claim, c.session, c.token, c.claimed_at, coalesce(s.owner, '') AS owner
    FROM {schema}.job_claim c
    CROSS JOIN LATERAL unnest(c.jobs) AS held (id)
    LEFT JOIN {schema}.session s ON s.id = c.session
)
SELECT t.now, o.namespace, o.id, o.kind, o.queue, o.priority, o.state, o.token, o.attempt, o.lost, o.enqueued_at, o.run_at,
       ''::bytea AS payload, o.content_type, o.spec, o.begun, o.attempted_at, o.finished_at, o.worker, o.error,
       NULL::bytea AS result, o.result_type, o.result_size, o.past, NULL::tid AS place, o.claim, o.session, o.running,
       o.since, o.owner, o.paused_at, o.paused_by, o.pause_reason
FROM (SELECT {clock} AS now) t
LEFT JOIN LATERAL (
    SELECT j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at,
               j.run_at, j.content_type, j.spec, j.route, j.begun, j.attempted_at, j.finished_at, j.worker, j.error,
               j.result_type, j.result_size, j.past,
               r.claim, r.session, r.token AS running, r.claimed_at AS since, r.owner,
               j.paused_at, j.paused_by, j.pause_reason
    FROM running r
    JOIN {schema}.job j ON j.namespace = r.namespace AND j.id = r.id AND r.token > j.token
    WHERE ($1::text IS NULL OR j.namespace = $1::text)
      AND ($2::text = 'running' AND j.state NOT IN ('dead', 'uncertain'))
      AND ($3::text IS NULL OR j.queue = $3::text)
      AND ($4::text IS NULL OR j.kind = $4::text)
      AND ($5::text IS NULL OR $5::text = ANY (string_to_array(j.route, chr(10))))
      AND ($6::uuid IS NULL OR j.id < $6::uuid)
    ORDER BY 2 DESC, 1 DESC
    LIMIT $7::bigint
) o ON true
ORDER BY o.id DESC, o.namespace DESC

-- step: wanted
SELECT t.now, o.namespace, o.id, o.kind, o.queue, o.priority, o.state, o.token, o.attempt, o.lost, o.enqueued_at, o.run_at,
       ''::bytea AS payload, o.content_type, o.spec, o.begun, o.attempted_at, o.finished_at, o.worker, o.error,
       NULL::bytea AS result, o.result_type, o.result_size, o.past, NULL::tid AS place, o.claim, o.session, o.running,
       o.since, o.owner, o.paused_at, o.paused_by, o.pause_reason
FROM (SELECT {clock} AS now) t
LEFT JOIN LATERAL (
    SELECT j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at,
               j.run_at, j.content_type, j.spec, j.route, j.begun, j.attempted_at, j.finished_at, j.worker, j.error,
               j.result_type, j.result_size, j.past,
               NULL::uuid AS claim, NULL::uuid AS session, NULL::bigint AS running,
               NULL::timestamptz AS since, NULL AS owner,
               j.paused_at, j.paused_by, j.pause_reason
    FROM {schema}.job j
    WHERE j.state IN ('dead', 'uncertain')
      AND ($1::text IS NULL OR j.namespace = $1::text)
      AND j.state = $2::text
      AND ($3::text IS NULL OR j.queue = $3::text)
      AND ($4::text IS NULL OR j.kind = $4::text)
      AND ($5::text IS NULL OR $5::text = ANY (string_to_array(j.route, chr(10))))
      AND ($6::uuid IS NULL OR j.id < $6::uuid)
    ORDER BY 2 DESC, 1 DESC
    LIMIT $7::bigint
) o ON true
ORDER BY o.id DESC, o.namespace DESC

-- step: over
SELECT t.now, o.namespace, o.id, o.kind, o.queue, o.priority, o.state, o.token, o.attempt, o.lost, o.enqueued_at, o.run_at,
       ''::bytea AS payload, o.content_type, o.spec, o.begun, o.attempted_at, o.finished_at, o.worker, o.error,
       NULL::bytea AS result, o.result_type, o.result_size, o.past, NULL::tid AS place, o.claim, o.session, o.running,
       o.since, o.owner, o.paused_at, o.paused_by, o.pause_reason
FROM (SELECT {clock} AS now) t
LEFT JOIN LATERAL (
    SELECT j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at,
               j.run_at, j.content_type, j.spec, j.route, j.begun, j.attempted_at, j.finished_at, j.worker, j.error,
               j.result_type, j.result_size, j.past,
               NULL::uuid AS claim, NULL::uuid AS session, NULL::bigint AS running,
               NULL::timestamptz AS since, NULL AS owner,
               NULL::timestamptz AS paused_at, NULL AS paused_by, NULL AS pause_reason
    FROM {schema}.job_done j
    WHERE ($1::text IS NULL OR j.namespace = $1::text)
      AND j.state = $2::text
      AND ($3::text IS NULL OR j.queue = $3::text)
      AND ($4::text IS NULL OR j.kind = $4::text)
      AND ($5::text IS NULL OR $5::text = ANY (string_to_array(j.route, chr(10))))
      AND ($6::uuid IS NULL OR j.id < $6::uuid)
    ORDER BY 2 DESC, 1 DESC
    LIMIT $7::bigint
) o ON true
ORDER BY o.id DESC, o.namespace DESC

-- step: paused
WITH paused AS MATERIALIZED (
    SELECT j.namespace, j.id
    FROM {schema}.job j
    WHERE j.paused_at IS NOT NULL
    ORDER BY j.paused_at
), running AS MATERIALIZED (
    SELECT c.namespace, held.id, c.id AS claim, c.session, c.token, c.claimed_at, coalesce(s.owner, '') AS owner
    FROM {schema}.job_claim c
    CROSS JOIN LATERAL unnest(c.jobs) AS held (id)
    LEFT JOIN {schema}.session s ON s.id = c.session
)
SELECT t.now, o.namespace, o.id, o.kind, o.queue, o.priority, o.state, o.token, o.attempt, o.lost, o.enqueued_at, o.run_at,
       ''::bytea AS payload, o.content_type, o.spec, o.begun, o.attempted_at, o.finished_at, o.worker, o.error,
       NULL::bytea AS result, o.result_type, o.result_size, o.past, NULL::tid AS place, o.claim, o.session, o.running,
       o.since, o.owner, o.paused_at, o.paused_by, o.pause_reason
FROM (SELECT {clock} AS now) t
LEFT JOIN LATERAL (
    SELECT j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at,
               j.run_at, j.content_type, j.spec, j.route, j.begun, j.attempted_at, j.finished_at, j.worker, j.error,
               j.result_type, j.result_size, j.past,
               r.claim, r.session, r.token AS running, r.claimed_at AS since, r.owner,
               j.paused_at, j.paused_by, j.pause_reason
     FROM paused p
     JOIN {schema}.job j ON j.namespace = p.namespace AND j.id = p.id
     LEFT JOIN running r ON r.namespace = j.namespace AND r.id = j.id AND r.token > j.token
            AND j.state NOT IN ('dead', 'uncertain')
     WHERE ($1::text IS NULL OR j.namespace = $1::text)
      AND ($2::text IS NULL OR $2::text = CASE WHEN r.claim IS NOT NULL THEN 'running' ELSE j.state END)
      AND ($3::text IS NULL OR j.queue = $3::text)
      AND ($4::text IS NULL OR j.kind = $4::text)
      AND ($5::text IS NULL OR $5::text = ANY (string_to_array(j.route, chr(10))))
      AND ($6::uuid IS NULL OR j.id < $6::uuid)
     ORDER BY 2 DESC, 1 DESC
     LIMIT $7::bigint
) o ON true
ORDER BY o.id DESC, o.namespace DESC
