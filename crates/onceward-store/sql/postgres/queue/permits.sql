-- queue.permits: what a session may do in a limited queue. Core decides; what it has decided is written if nobody was
-- given a permit meanwhile.
--
-- read
--   $1 namespace  $2 queue  $3 session
--   Rows, one per permit and one at least if the queue is limited: concurrency, rate_count, rate_us, burst, setting,
--   limits_at, version, tokens, filled_at, lent; how many jobs others run without a permit, and how many the session
--   runs; whether the session lasts; now; then the session of the permit (NULL: none), wanted, share, held, starts,
--   starts_until, asked_at.
-- grant
--   $1 namespace  $2 queue  $3 version  $4 tokens  $5 filled_at  $6 lent  $7 unsettled
--   $8 session  $9 setting  $10 wanted  $11 share  $12 held  $13 starts  $14 starts_until  $15 asked_at
--   Rows: one, unless somebody else was first.
-- Indexes: job_queue_pkey, job_limit_pkey, job_permit_pkey; job_claim_of_session, job_pkey. Claims are read only as long
-- as something may run that was claimed before the queue was limited.

-- step: read
WITH queue AS MATERIALIZED (
    SELECT q.concurrency, q.rate_count, q.rate_us, q.burst, q.setting, q.limits_at, l.version, l.tokens, l.filled_at,
           l.lent, l.unsettled, {clock} AS now
    FROM {schema}.job_queue q
    JOIN {schema}.job_limit l ON l.namespace = q.namespace AND l.queue = q.queue
    WHERE q.namespace = $1::text AND q.queue = $2::text AND q.limits_at IS NOT NULL
), permit AS MATERIALIZED (
    SELECT p.session, p.wanted, p.share, p.held, p.starts, p.starts_until, p.asked_at
    FROM queue q
    JOIN {schema}.job_permit p ON p.namespace = $1::text AND p.queue = $2::text AND p.setting = q.setting
), stray AS MATERIALIZED (
    SELECT count(*) AS jobs
    FROM queue q
    JOIN {schema}.job_claim c ON c.namespace = $1::text
    CROSS JOIN LATERAL unnest(c.jobs) AS h (id)
    CROSS JOIN LATERAL (
        SELECT j.queue
        FROM {schema}.job j
        WHERE j.namespace = c.namespace AND j.id = h.id AND j.token < c.token AND j.state NOT IN ('dead', 'uncertain')
        OFFSET 0
    ) j
    WHERE q.unsettled AND q.concurrency IS NOT NULL AND c.session <> $3::uuid
      AND NOT EXISTS (SELECT FROM permit p WHERE p.session = c.session)
      AND j.queue = $2::text
), mine AS MATERIALIZED (
    SELECT count(*) AS jobs
    FROM queue q
    JOIN {schema}.job_claim c ON c.session = $3::uuid AND c.namespace = $1::text
    CROSS JOIN LATERAL unnest(c.jobs) AS h (id)
    CROSS JOIN LATERAL (
        SELECT j.queue
        FROM {schema}.job j
        WHERE j.namespace = c.namespace AND j.id = h.id AND j.token < c.token AND j.state NOT IN ('dead', 'uncertain')
        OFFSET 0
    ) j
    WHERE q.concurrency IS NOT NULL AND j.queue = $2::text
)
SELECT q.concurrency, q.rate_count, q.rate_us, q.burst, q.setting, q.limits_at, q.version, q.tokens, q.filled_at, q.lent,
       s.jobs, m.jobs,
       EXISTS (SELECT FROM {schema}.session w WHERE w.id = $3::uuid AND w.expires_at > q.now),
       q.now, p.session, p.wanted, p.share, p.held, p.starts, p.starts_until, p.asked_at
FROM queue q
CROSS JOIN stray s
CROSS JOIN mine m
LEFT JOIN permit p ON true

-- step: grant
WITH moved AS (
    UPDATE {schema}.job_limit l
    SET version = l.version + 1, tokens = $4::bigint, filled_at = $5::timestamptz, lent = $6::integer,
        unsettled = l.unsettled AND $7::boolean
    WHERE l.namespace = $1::text AND l.queue = $2::text AND l.version = $3::bigint
    RETURNING l.queue
)
INSERT INTO {schema}.job_permit AS p (namespace, queue, session, setting, wanted, share, held, starts, starts_until,
                                      asked_at)
SELECT $1::text, m.queue, $8::uuid, $9::bigint, $10::integer, $11::integer, $12::integer, $13::integer,
       $14::timestamptz, $15::timestamptz
FROM moved m
ON CONFLICT (namespace, queue, session)
DO UPDATE SET setting = excluded.setting, wanted = excluded.wanted, share = excluded.share, held = excluded.held,
              starts = excluded.starts, starts_until = excluded.starts_until, asked_at = excluded.asked_at
RETURNING p.session
