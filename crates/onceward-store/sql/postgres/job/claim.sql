-- job.claim: takes jobs from their lanes and writes one row for all of them. No job row is written.
--
-- one: from one lane
--   $1 namespace  $2 session  $3 claim  $4 queue  $5 kind  $6 route  $7 alone  $8 limit
--   $9 $10 $11 rank, run_at and id to begin with: a hint past what was taken before, so that what lies dead at the
--   beginning of the lane, because somebody's old snapshot may still want it, is not read again by each claim
-- many: from several lanes: the best of all
--   $1 namespace  $2 session  $3 claim  $4 queue[]  $5 kind[]  $6 route[]  $7 limit[]  $8 alone  $9 limit in all
--   $10 rank[]  $11 run_at[]  $12 id[]; as above
-- permitted: as many; limited queues give what the permits of the session allow, which it locks
-- aged: as permitted, where waiting counts as priority; the other steps take nothing where such a queue is among those
--   asked for, and say which ones they are. No hints: each rank in a lane has a beginning of its own.
--   $1 to $9 as in permitted  $10 whether it comes with permits; without, limited queues give nothing
-- Rows: whether there is such a claim already, which takes nothing more; the queues that gave nothing because of
--   their limits (NULL: none); those where waiting counts, and how much as one priority, in microseconds (NULL: none was
--   met); the token (NULL: nothing was there) and
--   the time of the claim, how long finding took in seconds; the id of a job that was not where its lane said, or the
--   columns of the job. A claim that is just being made fails with 23505.
-- standing: as Tuning::rank has it
-- again: what a claim still holds, in the order in which it was claimed. $1 claim
-- moved: jobs of a claim by their keys. $1 claim  $2 id[]
-- Rows of both: the token and the time of the claim, then the columns of a job; NULL for one that has ended.
-- Index: job_ready_lane (lane, alone, rank, run_at, id), in its order, from the hint on; job_pkey; places. A lane is asked
-- for as a range and not as an equal: without statistics the planner takes equals for few, and would sort all of them.

-- step: one
{bound}WITH time AS MATERIALIZED (
    SELECT {clock} AS now, clock_timestamp() AS began,
           EXISTS (SELECT FROM {schema}.job_claim c WHERE c.id = $3::uuid) AS known
    FROM {bounded}(SELECT) one
), lane AS MATERIALIZED (
    SELECT hashtextextended($6::text, hashtextextended($5::text, hashtextextended($4::text,
               hashtextextended($1::text, 0)))) AS lane
    FROM time
    WHERE NOT time.known
      AND NOT EXISTS (SELECT FROM {schema}.job_queue q
                      WHERE q.namespace = $1::text AND q.queue = $4::text
                        AND (q.paused_at IS NOT NULL OR q.limits_at IS NOT NULL OR q.ageing_us IS NOT NULL))
), first AS MATERIALIZED (
    SELECT f.*
    FROM lane l
    CROSS JOIN LATERAL (
        SELECT r.ctid AS at, r.id, r.token, r.place, r.rank, r.run_at
        FROM {schema}.job_ready r
        WHERE (r.lane, r.alone, r.rank, r.run_at, r.id)
                  >= (l.lane, $7::boolean, $9::smallint, $10::timestamptz, $11::uuid)
          AND (r.lane, r.alone) <= (l.lane, $7::boolean)
          AND r.namespace = $1::text AND r.queue = $4::text AND r.kind = $5::text AND r.route = $6::text
        ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
        LIMIT $8::bigint
        FOR UPDATE OF r SKIP LOCKED
    ) f
), taken AS (
    DELETE FROM {schema}.job_ready r
    USING first f
    WHERE r.ctid = f.at
    RETURNING f.id, f.token, f.place, f.rank, f.run_at
), kept AS MATERIALIZED (
    SELECT q.queue
    FROM {schema}.job_queue q
    CROSS JOIN LATERAL (
        SELECT r.id
        FROM {schema}.job_ready r
        WHERE (r.lane, r.alone, r.rank, r.run_at, r.id)
                  >= (hashtextextended($6::text, hashtextextended($5::text, hashtextextended(q.queue,
                          hashtextextended($1::text, 0)))), $7::boolean, $9::smallint, $10::timestamptz, $11::uuid)
          AND (r.lane, r.alone)
                  <= (hashtextextended($6::text, hashtextextended($5::text, hashtextextended(q.queue,
                          hashtextextended($1::text, 0)))), $7::boolean)
          AND r.namespace = $1::text AND r.queue = q.queue AND r.kind = $5::text AND r.route = $6::text
        ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
        LIMIT 1
    ) f
    WHERE q.namespace = $1::text AND q.queue = $4::text AND q.limits_at IS NOT NULL AND q.paused_at IS NULL
), claimed AS (
    INSERT INTO {schema}.job_claim (id, namespace, session, token, claimed_at, jobs)
    SELECT $3::uuid, $1::text, $2::uuid,
           greatest(t.token + 1, (extract(epoch FROM l.now) * 1000000)::bigint), l.now, t.jobs
    FROM time l,
         (SELECT max(t.token) AS token, array_agg(t.id ORDER BY t.rank, t.run_at, t.id) AS jobs
          FROM taken t HAVING count(*) > 0) t
    RETURNING token, claimed_at
)
SELECT l.known,
       -- Only where nothing was taken it can be for its limits, or because waiting counts there.
       CASE WHEN t.id IS NULL THEN (SELECT array_agg(k.queue) FROM kept k) END AS limited,
       CASE WHEN t.id IS NULL THEN ARRAY (SELECT q.queue FROM {schema}.job_queue q
                                          WHERE q.namespace = $1::text AND q.queue = $4::text
                                            AND q.ageing_us IS NOT NULL) END AS aged,
       NULL::bigint[] AS ageing,
       c.token, l.now, extract(epoch FROM clock_timestamp() - l.began)::double precision AS took,
       CASE WHEN j.id IS NULL THEN t.id END AS missing,
       j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at, j.run_at,
       j.payload, j.content_type, j.spec, j.begun, j.attempted_at, j.finished_at, j.worker, j.error, j.result,
       j.result_type, j.result_size, j.past, j.ctid AS place
FROM time l
LEFT JOIN claimed c ON true
LEFT JOIN taken t ON true
LEFT JOIN {schema}.job j ON j.ctid = t.place AND j.id = t.id AND j.namespace = $1::text

-- step: many
{bound}WITH time AS MATERIALIZED (
    SELECT {clock} AS now, clock_timestamp() AS began,
           EXISTS (SELECT FROM {schema}.job_claim c WHERE c.id = $3::uuid) AS known
    FROM {bounded}(SELECT) one
), shut AS MATERIALIZED (
    SELECT q.queue, q.limits_at, q.paused_at, q.ageing_us
    FROM {schema}.job_queue q
    WHERE q.namespace = $1::text AND q.queue = ANY ($4::text[])
      AND (q.paused_at IS NOT NULL OR q.limits_at IS NOT NULL OR q.ageing_us IS NOT NULL)
), want AS MATERIALIZED (
    SELECT w.*, hashtextextended(w.route, hashtextextended(w.kind, hashtextextended(w.queue,
               hashtextextended($1::text, 0)))) AS lane
    FROM time,
         unnest($4::text[], $5::text[], $6::text[], $7::bigint[], $10::smallint[], $11::timestamptz[], $12::uuid[])
             WITH ORDINALITY AS w (queue, kind, route, most, rank, run_at, id, n)
    WHERE NOT time.known AND NOT EXISTS (SELECT FROM shut q WHERE q.queue = w.queue OR q.ageing_us IS NOT NULL)
), best AS MATERIALIZED (
    -- How many of each lane are among the best of all. Nothing is locked yet: what is not taken is in nobody's way.
    SELECT b.n, count(*) AS some
    FROM (
        SELECT w.n
        FROM want w
        CROSS JOIN LATERAL (
            SELECT r.rank, r.run_at, r.id
            FROM {schema}.job_ready r
            WHERE (r.lane, r.alone, r.rank, r.run_at, r.id) >= (w.lane, $8::boolean, w.rank, w.run_at, w.id)
              AND (r.lane, r.alone) <= (w.lane, $8::boolean)
              AND r.namespace = $1::text AND r.queue = w.queue AND r.kind = w.kind AND r.route = w.route
            ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
            LIMIT least(w.most, $9::bigint)
        ) f
        ORDER BY f.rank, f.run_at, f.id
        LIMIT $9::bigint
    ) b
    GROUP BY b.n
), first AS MATERIALIZED (
    SELECT f.*
    FROM best b
    JOIN want w ON w.n = b.n
    CROSS JOIN LATERAL (
        SELECT r.ctid AS at, r.id, r.token, r.place, r.rank, r.run_at
        FROM {schema}.job_ready r
        WHERE (r.lane, r.alone, r.rank, r.run_at, r.id) >= (w.lane, $8::boolean, w.rank, w.run_at, w.id)
          AND (r.lane, r.alone) <= (w.lane, $8::boolean)
          AND r.namespace = $1::text AND r.queue = w.queue AND r.kind = w.kind AND r.route = w.route
        ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
        LIMIT b.some
        FOR UPDATE OF r SKIP LOCKED
    ) f
), taken AS (
    DELETE FROM {schema}.job_ready r
    USING first f
    WHERE r.ctid = f.at
    RETURNING f.id, f.token, f.place, f.rank, f.run_at
), kept AS MATERIALIZED (
    SELECT DISTINCT w.queue
    FROM shut q
    JOIN unnest($4::text[], $5::text[], $6::text[], $10::smallint[], $11::timestamptz[], $12::uuid[])
        AS w (queue, kind, route, rank, run_at, id) ON w.queue = q.queue AND q.limits_at IS NOT NULL
                                                   AND q.paused_at IS NULL
    CROSS JOIN LATERAL (
        SELECT hashtextextended(w.route, hashtextextended(w.kind, hashtextextended(w.queue,
                   hashtextextended($1::text, 0)))) AS lane
        OFFSET 0
    ) l
    CROSS JOIN LATERAL (
        SELECT r.id
        FROM {schema}.job_ready r
        WHERE (r.lane, r.alone, r.rank, r.run_at, r.id) >= (l.lane, $8::boolean, w.rank, w.run_at, w.id)
          AND (r.lane, r.alone) <= (l.lane, $8::boolean)
          AND r.namespace = $1::text AND r.queue = w.queue AND r.kind = w.kind AND r.route = w.route
        ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
        LIMIT 1
    ) f
), claimed AS (
    INSERT INTO {schema}.job_claim (id, namespace, session, token, claimed_at, jobs)
    SELECT $3::uuid, $1::text, $2::uuid,
           greatest(t.token + 1, (extract(epoch FROM l.now) * 1000000)::bigint), l.now, t.jobs
    FROM time l,
         (SELECT max(t.token) AS token, array_agg(t.id ORDER BY t.rank, t.run_at, t.id) AS jobs
          FROM taken t HAVING count(*) > 0) t
    RETURNING token, claimed_at
)
SELECT l.known, (SELECT array_agg(k.queue) FROM kept k) AS limited,
       (SELECT array_agg(q.queue) FROM shut q WHERE q.ageing_us IS NOT NULL) AS aged, NULL::bigint[] AS ageing,
       c.token, l.now, extract(epoch FROM clock_timestamp() - l.began)::double precision AS took,
       CASE WHEN j.id IS NULL THEN t.id END AS missing,
       j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at, j.run_at,
       j.payload, j.content_type, j.spec, j.begun, j.attempted_at, j.finished_at, j.worker, j.error, j.result,
       j.result_type, j.result_size, j.past, j.ctid AS place
FROM time l
LEFT JOIN claimed c ON true
LEFT JOIN taken t ON true
LEFT JOIN {schema}.job j ON j.ctid = t.place AND j.id = t.id AND j.namespace = $1::text

-- step: permitted
{bound}WITH time AS MATERIALIZED (
    SELECT {clock} AS now, clock_timestamp() AS began,
           EXISTS (SELECT FROM {schema}.job_claim c WHERE c.id = $3::uuid) AS known
    FROM {bounded}(SELECT) one
), terms AS MATERIALIZED (
    SELECT q.queue, q.paused_at, q.limits_at, q.concurrency, q.rate_count, q.setting, q.ageing_us
    FROM {schema}.job_queue q
    WHERE q.namespace = $1::text AND q.queue = ANY ($4::text[])
), mine AS MATERIALIZED (
    -- Permits are cleared away once the session is, and nothing of it is left: while it is locked, it is not.
    SELECT s.id
    FROM {schema}.session s
    WHERE s.id = $2::uuid
    FOR KEY SHARE OF s SKIP LOCKED
), permit AS MATERIALIZED (
    SELECT p.queue, p.share, p.starts, p.starts_until
    FROM mine m
    CROSS JOIN terms q
    JOIN {schema}.job_permit p ON p.namespace = $1::text AND p.queue = q.queue AND p.session = m.id
    WHERE p.setting = q.setting AND q.limits_at IS NOT NULL
    FOR NO KEY UPDATE OF p SKIP LOCKED
), running AS MATERIALIZED (
    SELECT j.queue, count(*) AS jobs
    FROM {schema}.job_claim c
    CROSS JOIN LATERAL unnest(c.jobs) AS h (id)
    CROSS JOIN LATERAL (
        SELECT j.queue
        FROM {schema}.job j
        WHERE j.namespace = c.namespace AND j.id = h.id AND j.token < c.token AND j.state NOT IN ('dead', 'uncertain')
        OFFSET 0
    ) j
    WHERE c.session = $2::uuid AND c.namespace = $1::text AND j.queue IN (SELECT p.queue FROM permit p)
    GROUP BY j.queue
), allowed AS MATERIALIZED (
    -- As job::permit::Permit::allows.
    SELECT q.queue,
           CASE WHEN q.paused_at IS NOT NULL THEN 0
                WHEN q.limits_at IS NULL THEN $9::bigint
                WHEN p.queue IS NULL THEN 0
                ELSE least($9::bigint,
                           CASE WHEN q.concurrency IS NOT NULL THEN p.share - coalesce(r.jobs, 0) END,
                           CASE WHEN q.rate_count IS NULL THEN NULL
                                WHEN p.starts_until > t.now THEN p.starts ELSE 0 END)
           END AS most
    FROM time t
    CROSS JOIN terms q
    LEFT JOIN permit p ON p.queue = q.queue
    LEFT JOIN running r ON r.queue = q.queue
), want AS MATERIALIZED (
    SELECT w.n, w.queue, w.kind, w.route, w.rank, w.run_at, w.id, coalesce(a.most, $9::bigint) AS allowed,
           least(w.most, a.most) AS most, hashtextextended(w.route, hashtextextended(w.kind, hashtextextended(w.queue,
               hashtextextended($1::text, 0)))) AS lane
    FROM time,
         unnest($4::text[], $5::text[], $6::text[], $7::bigint[], $10::smallint[], $11::timestamptz[], $12::uuid[])
             WITH ORDINALITY AS w (queue, kind, route, most, rank, run_at, id, n)
    LEFT JOIN allowed a ON a.queue = w.queue
    WHERE NOT time.known AND coalesce(a.most, 1) > 0
      AND NOT EXISTS (SELECT FROM terms q WHERE q.ageing_us IS NOT NULL)
), best AS MATERIALIZED (
    -- How many of each lane are among the best of all. Nothing is locked yet: what is not taken is in nobody's way.
    SELECT b.n, count(*) AS some
    FROM (SELECT c.n FROM (
        SELECT w.n, w.allowed, f.rank, f.run_at, f.id,
               row_number() OVER (PARTITION BY w.queue ORDER BY f.rank, f.run_at, f.id) AS place
        FROM want w
        CROSS JOIN LATERAL (
            SELECT r.rank, r.run_at, r.id
            FROM {schema}.job_ready r
            WHERE (r.lane, r.alone, r.rank, r.run_at, r.id) >= (w.lane, $8::boolean, w.rank, w.run_at, w.id)
              AND (r.lane, r.alone) <= (w.lane, $8::boolean)
              AND r.namespace = $1::text AND r.queue = w.queue AND r.kind = w.kind AND r.route = w.route
            ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
            LIMIT least(w.most, $9::bigint)
        ) f
    ) c
    WHERE c.place <= c.allowed
    ORDER BY c.rank, c.run_at, c.id
    LIMIT $9::bigint) b
    GROUP BY b.n
), first AS MATERIALIZED (
    SELECT f.*
    FROM best b
    JOIN want w ON w.n = b.n
    CROSS JOIN LATERAL (
        SELECT r.ctid AS at, r.queue, r.id, r.token, r.place, r.rank, r.run_at
        FROM {schema}.job_ready r
        WHERE (r.lane, r.alone, r.rank, r.run_at, r.id) >= (w.lane, $8::boolean, w.rank, w.run_at, w.id)
          AND (r.lane, r.alone) <= (w.lane, $8::boolean)
          AND r.namespace = $1::text AND r.queue = w.queue AND r.kind = w.kind AND r.route = w.route
        ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
        LIMIT b.some
        FOR UPDATE OF r SKIP LOCKED
    ) f
), taken AS (
    DELETE FROM {schema}.job_ready r
    USING first f
    WHERE r.ctid = f.at
    RETURNING f.queue, f.id, f.token, f.place, f.rank, f.run_at
), spent AS (
    UPDATE {schema}.job_permit p
    SET starts = p.starts - u.jobs
    FROM (SELECT t.queue, count(*)::integer AS jobs
          FROM taken t
          JOIN terms q ON q.queue = t.queue AND q.rate_count IS NOT NULL AND q.limits_at IS NOT NULL
          GROUP BY t.queue) u
    WHERE p.namespace = $1::text AND p.queue = u.queue AND p.session = $2::uuid
), kept AS MATERIALIZED (
    SELECT DISTINCT w.queue
    FROM terms q
    JOIN allowed a ON a.queue = q.queue AND a.most <= 0 AND q.limits_at IS NOT NULL AND q.paused_at IS NULL
                  AND q.ageing_us IS NULL
    JOIN unnest($4::text[], $5::text[], $6::text[], $10::smallint[], $11::timestamptz[], $12::uuid[])
        AS w (queue, kind, route, rank, run_at, id) ON w.queue = q.queue
    CROSS JOIN LATERAL (
        SELECT hashtextextended(w.route, hashtextextended(w.kind, hashtextextended(w.queue,
                   hashtextextended($1::text, 0)))) AS lane
        OFFSET 0
    ) l
    CROSS JOIN LATERAL (
        SELECT r.id
        FROM {schema}.job_ready r
        WHERE (r.lane, r.alone, r.rank, r.run_at, r.id) >= (l.lane, $8::boolean, w.rank, w.run_at, w.id)
          AND (r.lane, r.alone) <= (l.lane, $8::boolean)
          AND r.namespace = $1::text AND r.queue = w.queue AND r.kind = w.kind AND r.route = w.route
        ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
        LIMIT 1
    ) f
), claimed AS (
    INSERT INTO {schema}.job_claim (id, namespace, session, token, claimed_at, jobs)
    SELECT $3::uuid, $1::text, $2::uuid,
           greatest(t.token + 1, (extract(epoch FROM l.now) * 1000000)::bigint), l.now, t.jobs
    FROM time l,
         (SELECT max(t.token) AS token, array_agg(t.id ORDER BY t.rank, t.run_at, t.id) AS jobs
          FROM taken t HAVING count(*) > 0) t
    RETURNING token, claimed_at
)
SELECT l.known,
       (SELECT array_agg(k.queue) FROM kept k) AS limited,
       (SELECT array_agg(q.queue) FROM terms q WHERE q.ageing_us IS NOT NULL) AS aged, NULL::bigint[] AS ageing,
       c.token, l.now, extract(epoch FROM clock_timestamp() - l.began)::double precision AS took,
       CASE WHEN j.id IS NULL THEN t.id END AS missing,
       j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at, j.run_at,
       j.payload, j.content_type, j.spec, j.begun, j.attempted_at, j.finished_at, j.worker, j.error, j.result,
       j.result_type, j.result_size, j.past, j.ctid AS place
FROM time l
LEFT JOIN claimed c ON true
LEFT JOIN taken t ON true
LEFT JOIN {schema}.job j ON j.ctid = t.place AND j.id = t.id AND j.namespace = $1::text

-- step: standing
CASE WHEN p.ageing_us IS NULL THEN r.rank
     ELSE greatest(-1000, r.rank - greatest(0, (extract(epoch FROM t.now - r.run_at) * 1000000)::bigint) / p.ageing_us)
END AS standing

-- step: aged
{bound}WITH time AS MATERIALIZED (
    SELECT {clock} AS now, clock_timestamp() AS began,
           EXISTS (SELECT FROM {schema}.job_claim c WHERE c.id = $3::uuid) AS known
    FROM {bounded}(SELECT) one
), terms AS MATERIALIZED (
    SELECT q.queue, q.paused_at, q.limits_at, q.concurrency, q.rate_count, q.setting, q.ageing_us
    FROM {schema}.job_queue q
    WHERE q.namespace = $1::text AND q.queue = ANY ($4::text[])
), mine AS MATERIALIZED (
    -- Permits are cleared away once the session is, and nothing of it is left: while it is locked, it is not.
    SELECT s.id
    FROM {schema}.session s
    WHERE s.id = $2::uuid AND $10::boolean
    FOR KEY SHARE OF s SKIP LOCKED
), permit AS MATERIALIZED (
    SELECT p.queue, p.share, p.starts, p.starts_until
    FROM mine m
    CROSS JOIN terms q
    JOIN {schema}.job_permit p ON p.namespace = $1::text AND p.queue = q.queue AND p.session = m.id
    WHERE p.setting = q.setting AND q.limits_at IS NOT NULL
    FOR NO KEY UPDATE OF p SKIP LOCKED
), running AS MATERIALIZED (
    SELECT j.queue, count(*) AS jobs
    FROM {schema}.job_claim c
    CROSS JOIN LATERAL unnest(c.jobs) AS h (id)
    CROSS JOIN LATERAL (
        SELECT j.queue
        FROM {schema}.job j
        WHERE j.namespace = c.namespace AND j.id = h.id AND j.token < c.token AND j.state NOT IN ('dead', 'uncertain')
        OFFSET 0
    ) j
    WHERE c.session = $2::uuid AND c.namespace = $1::text AND j.queue IN (SELECT p.queue FROM permit p)
    GROUP BY j.queue
), allowed AS MATERIALIZED (
    -- As job::permit::Permit::allows.
    SELECT q.queue,
           CASE WHEN q.paused_at IS NOT NULL THEN 0
                WHEN q.limits_at IS NULL THEN $9::bigint
                WHEN p.queue IS NULL THEN 0
                ELSE least($9::bigint,
                           CASE WHEN q.concurrency IS NOT NULL THEN p.share - coalesce(r.jobs, 0) END,
                           CASE WHEN q.rate_count IS NULL THEN NULL
                                WHEN p.starts_until > t.now THEN p.starts ELSE 0 END)
           END AS most
    FROM time t
    CROSS JOIN terms q
    LEFT JOIN permit p ON p.queue = q.queue
    LEFT JOIN running r ON r.queue = q.queue
), want AS MATERIALIZED (
    SELECT w.n, w.queue, w.kind, w.route, q.ageing_us, coalesce(a.most, $9::bigint) AS allowed,
           least(w.most, a.most) AS most, hashtextextended(w.route, hashtextextended(w.kind, hashtextextended(w.queue,
               hashtextextended($1::text, 0)))) AS lane
    FROM time,
         unnest($4::text[], $5::text[], $6::text[], $7::bigint[])
             WITH ORDINALITY AS w (queue, kind, route, most, n)
    LEFT JOIN allowed a ON a.queue = w.queue
    LEFT JOIN terms q ON q.queue = w.queue
    WHERE NOT time.known AND coalesce(a.most, 1) > 0
), part AS MATERIALIZED (
    -- Each rank in a lane, from one to the next: the first one in it has waited longest.
    SELECT w.*, f.rank
    FROM want w
    CROSS JOIN LATERAL (
        WITH RECURSIVE next (rank) AS (
            (SELECT r.rank
             FROM {schema}.job_ready r
             WHERE (r.lane, r.alone) >= (w.lane, $8::boolean) AND (r.lane, r.alone) <= (w.lane, $8::boolean)
             ORDER BY r.lane, r.alone, r.rank
             LIMIT 1)
            UNION ALL
            SELECT f.rank
            FROM next n
            CROSS JOIN LATERAL (
                SELECT r.rank
                FROM {schema}.job_ready r
                WHERE (r.lane, r.alone, r.rank) > (w.lane, $8::boolean, n.rank)
                  AND (r.lane, r.alone) <= (w.lane, $8::boolean)
                ORDER BY r.lane, r.alone, r.rank
                LIMIT 1
            ) f
        )
        SELECT next.rank FROM next
    ) f
), best AS MATERIALIZED (
    -- How many of each rank are among the best of all. Nothing is locked yet: what is not taken is in nobody's way.
    SELECT b.n, b.rank, count(*) AS some
    FROM (SELECT c.n, c.rank FROM (
        SELECT p.n, p.rank, p.allowed, p.most, f.standing, f.run_at, f.id,
               row_number() OVER (PARTITION BY p.queue ORDER BY f.standing, f.run_at, f.id) AS place,
               row_number() OVER (PARTITION BY p.n ORDER BY f.standing, f.run_at, f.id) AS place_in_lane
        FROM time t
        CROSS JOIN part p
        CROSS JOIN LATERAL (
            SELECT r.run_at, r.id,
                   {standing}
            FROM {schema}.job_ready r
            WHERE (r.lane, r.alone, r.rank) >= (p.lane, $8::boolean, p.rank)
              AND (r.lane, r.alone, r.rank) <= (p.lane, $8::boolean, p.rank)
              AND r.namespace = $1::text AND r.queue = p.queue AND r.kind = p.kind AND r.route = p.route
            ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
            LIMIT least(p.most, $9::bigint)
        ) f
    ) c
    WHERE c.place <= c.allowed AND c.place_in_lane <= c.most
    ORDER BY c.standing, c.run_at, c.id
    LIMIT $9::bigint) b
    GROUP BY b.n, b.rank
), first AS MATERIALIZED (
    SELECT f.*
    FROM time t
    CROSS JOIN best b
    JOIN part p ON p.n = b.n AND p.rank = b.rank
    CROSS JOIN LATERAL (
        SELECT r.ctid AS at, r.queue, r.id, r.token, r.place, r.run_at, {standing}
        FROM {schema}.job_ready r
        WHERE (r.lane, r.alone, r.rank) >= (p.lane, $8::boolean, p.rank)
          AND (r.lane, r.alone, r.rank) <= (p.lane, $8::boolean, p.rank)
          AND r.namespace = $1::text AND r.queue = p.queue AND r.kind = p.kind AND r.route = p.route
        ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
        LIMIT b.some
        FOR UPDATE OF r SKIP LOCKED
    ) f
), taken AS (
    DELETE FROM {schema}.job_ready r
    USING first f
    WHERE r.ctid = f.at
    RETURNING f.queue, f.id, f.token, f.place, f.standing, f.run_at
), spent AS (
    UPDATE {schema}.job_permit p
    SET starts = p.starts - u.jobs
    FROM (SELECT t.queue, count(*)::integer AS jobs
          FROM taken t
          JOIN terms q ON q.queue = t.queue AND q.rate_count IS NOT NULL AND q.limits_at IS NOT NULL
          GROUP BY t.queue) u
    WHERE p.namespace = $1::text AND p.queue = u.queue AND p.session = $2::uuid
), kept AS MATERIALIZED (
    SELECT DISTINCT w.queue
    FROM terms q
    JOIN allowed a ON a.queue = q.queue AND a.most <= 0 AND q.limits_at IS NOT NULL AND q.paused_at IS NULL
    JOIN unnest($4::text[], $5::text[], $6::text[]) AS w (queue, kind, route) ON w.queue = q.queue
    CROSS JOIN LATERAL (
        SELECT hashtextextended(w.route, hashtextextended(w.kind, hashtextextended(w.queue,
                   hashtextextended($1::text, 0)))) AS lane
        OFFSET 0
    ) l
    CROSS JOIN LATERAL (
        SELECT r.id
        FROM {schema}.job_ready r
        WHERE (r.lane, r.alone) >= (l.lane, $8::boolean) AND (r.lane, r.alone) <= (l.lane, $8::boolean)
          AND r.namespace = $1::text AND r.queue = w.queue AND r.kind = w.kind AND r.route = w.route
        ORDER BY r.lane, r.alone, r.rank, r.run_at, r.id
        LIMIT 1
    ) f
), claimed AS (
    INSERT INTO {schema}.job_claim (id, namespace, session, token, claimed_at, jobs)
    SELECT $3::uuid, $1::text, $2::uuid,
           greatest(t.token + 1, (extract(epoch FROM l.now) * 1000000)::bigint), l.now, t.jobs
    FROM time l,
         (SELECT max(t.token) AS token, array_agg(t.id ORDER BY t.standing, t.run_at, t.id) AS jobs
          FROM taken t HAVING count(*) > 0) t
    RETURNING token, claimed_at
)
SELECT l.known,
       (SELECT array_agg(k.queue) FROM kept k) AS limited,
       (SELECT array_agg(q.queue ORDER BY q.queue) FROM terms q WHERE q.ageing_us IS NOT NULL) AS aged,
       (SELECT array_agg(q.ageing_us ORDER BY q.queue) FROM terms q WHERE q.ageing_us IS NOT NULL) AS ageing,
       c.token, l.now, extract(epoch FROM clock_timestamp() - l.began)::double precision AS took,
       CASE WHEN j.id IS NULL THEN t.id END AS missing,
       j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at, j.run_at,
       j.payload, j.content_type, j.spec, j.begun, j.attempted_at, j.finished_at, j.worker, j.error, j.result,
       j.result_type, j.result_size, j.past, j.ctid AS place
FROM time l
LEFT JOIN claimed c ON true
LEFT JOIN taken t ON true
LEFT JOIN {schema}.job j ON j.ctid = t.place AND j.id = t.id AND j.namespace = $1::text

-- step: again
SELECT c.token, c.claimed_at,
       j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at, j.run_at,
       j.payload, j.content_type, j.spec, j.begun, j.attempted_at, j.finished_at, j.worker, j.error, j.result,
       j.result_type, j.result_size, j.past, j.ctid AS place
FROM (SELECT c.namespace, c.token, c.claimed_at, h.job, h.n
      FROM {schema}.job_claim c, unnest(c.jobs) WITH ORDINALITY AS h (job, n) WHERE c.id = $1::uuid) c
LEFT JOIN {schema}.job j ON j.namespace = c.namespace AND j.id = c.job AND j.token < c.token
                        AND j.state NOT IN ('dead', 'uncertain')
ORDER BY c.n

-- step: moved
SELECT c.token, c.claimed_at,
       j.namespace, j.id, j.kind, j.queue, j.priority, j.state, j.token, j.attempt, j.lost, j.enqueued_at, j.run_at,
       j.payload, j.content_type, j.spec, j.begun, j.attempted_at, j.finished_at, j.worker, j.error, j.result,
       j.result_type, j.result_size, j.past, j.ctid AS place
FROM (SELECT c.namespace, c.token, c.claimed_at, unnest($2::uuid[]) AS job
      FROM {schema}.job_claim c WHERE c.id = $1::uuid) c
JOIN {schema}.job j ON j.namespace = c.namespace AND j.id = c.job
WHERE j.token < c.token AND j.state NOT IN ('dead', 'uncertain')
