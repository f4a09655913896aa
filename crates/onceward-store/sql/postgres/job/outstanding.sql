-- job.outstanding: whether a job is left that a worker of these queues, kinds and tags waits for.
--
-- $1 namespace  $2 queue[]  $3 kind[]  $4 the worker's tag[]  $5 horizon, in microseconds
-- Row: whether there is one.
-- Indexes: job_ready_lane, the beginning of each lane and, where the worker has tags, from one lane to the next; job_pkey
-- for what runs. What waits for its time, or for others, is read up to the first that counts.

WITH RECURSIVE open AS MATERIALIZED (
    SELECT w.queue
    FROM unnest($2::text[]) AS w (queue)
    WHERE NOT EXISTS (SELECT FROM {schema}.job_queue q
                      WHERE q.namespace = $1::text AND q.queue = w.queue AND q.paused_at IS NOT NULL)
), tagged (lane, namespace, queue, kind, route) AS (
    (SELECT r.lane, r.namespace, r.queue, r.kind, r.route
     FROM {schema}.job_ready r
     WHERE cardinality($4::text[]) > 0
     ORDER BY r.lane, r.alone
     LIMIT 1)
    UNION ALL
    SELECT n.*
    FROM tagged l
    CROSS JOIN LATERAL (
        SELECT r.lane, r.namespace, r.queue, r.kind, r.route
        FROM {schema}.job_ready r
        WHERE r.lane > l.lane
        ORDER BY r.lane, r.alone
        LIMIT 1
    ) n
)
SELECT EXISTS (
    SELECT
    FROM (SELECT o.queue, k.kind, hashtextextended('', hashtextextended(k.kind, hashtextextended(o.queue,
                     hashtextextended($1::text, 0)))) AS lane
          FROM open o
          CROSS JOIN unnest($3::text[]) AS k (kind)) l
    CROSS JOIN LATERAL (
        SELECT FROM {schema}.job_ready r
        -- A range, and not equals, as in job.claim.
        WHERE (r.lane, r.alone) >= (l.lane, false) AND (r.lane, r.alone) <= (l.lane, true)
          AND r.namespace = $1::text AND r.queue = l.queue AND r.kind = l.kind AND r.route = ''
        ORDER BY r.lane, r.alone
        LIMIT 1
    ) f
) OR EXISTS (
    SELECT FROM tagged t
    WHERE t.namespace = $1::text AND t.kind = ANY ($3::text[]) AND t.queue IN (SELECT o.queue FROM open o)
      AND string_to_array(t.route, chr(10)) && $4::text[]
) OR EXISTS (
    SELECT FROM {schema}.job_later l
    WHERE l.namespace = $1::text AND l.kind = ANY ($3::text[]) AND l.queue IN (SELECT o.queue FROM open o)
      AND (l.route = '' OR string_to_array(l.route, chr(10)) && $4::text[])
      AND (l.run_at <= {clock} + $5::bigint * interval '1 microsecond'
           -- Only what was tried before can be tried again.
           OR (l.token > 0
               AND (SELECT j.state FROM {schema}.job j WHERE j.namespace = l.namespace AND j.id = l.id) = 'retrying'))
) OR EXISTS (
    SELECT FROM {schema}.job_held h
    WHERE h.namespace = $1::text AND h.kind = ANY ($3::text[]) AND h.queue IN (SELECT o.queue FROM open o)
      AND (h.route = '' OR string_to_array(h.route, chr(10)) && $4::text[])
) OR EXISTS (
    SELECT
    FROM {schema}.job_claim c
    CROSS JOIN LATERAL unnest(c.jobs) AS held (id)
    CROSS JOIN LATERAL (
        SELECT j.queue, j.kind, j.route, j.state, j.token
        FROM {schema}.job j
        WHERE j.namespace = c.namespace AND j.id = held.id
        LIMIT 1
    ) j
    WHERE c.namespace = $1::text AND j.token < c.token AND j.state NOT IN ('dead', 'uncertain')
      AND j.queue = ANY ($2::text[]) AND j.kind = ANY ($3::text[])
      AND (j.route IS NULL OR string_to_array(j.route, chr(10)) && $4::text[])
)
