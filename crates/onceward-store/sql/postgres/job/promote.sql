-- job.promote: makes jobs ready that are due, and lets the next ones of their ordering keys through.
--
-- due
--   $1 limit  $2 run_at to begin with, a hint as in job.claim
--   Rows: how many, the latest run_at of them, how long finding took in seconds, now; then the namespace and the queue
--   of those that are ready now, once each (NULL: none).
-- next: one row: when the next one is due (NULL: none waits), and whether anything waits to be let through.
--   $1 run_at to begin with
-- chores: whether there is anything to do, asked by those who wait.
--   $1 run_at to begin with
--   One row: when the next one is due, whether anything waits to be let through, whether sessions have run out or have
--   left claims or permits behind, now. Sessions, claims and permits are few.
-- admit: lets the first waiting job of each ordering key through that has changed and has none let through; where a
--   queue of the namespace allows more than one, as many as job::keys::may_pass says. Whoever has the turn does it, and
--   nobody waits for it.
--   $1 limit
--   Rows: how many changes were looked at; then namespace and queue as above.
-- Indexes: job_later_due (run_at, id) in its order; job_held_of_key, job_gate_pkey; job_queue_keyed, mostly empty.

-- step: due
WITH time AS MATERIALIZED (
    SELECT {clock} AS now, clock_timestamp() AS began
), due AS MATERIALIZED (
    SELECT f.*
    FROM time t
    CROSS JOIN LATERAL (
        SELECT l.ctid AS at, l.namespace, l.queue, l.kind, l.route, l.rank, l.run_at, l.id, l.token, l.place,
               l.ordering_key
        FROM {schema}.job_later l
        WHERE l.run_at <= t.now AND l.run_at >= $2::timestamptz
        ORDER BY l.run_at, l.id
        LIMIT $1::bigint
        FOR UPDATE OF l SKIP LOCKED
    ) f
), gone AS (
    DELETE FROM {schema}.job_later l
    USING due d
    WHERE l.ctid = d.at
    RETURNING d.namespace, d.queue, d.kind, d.route, d.rank, d.run_at, d.id, d.token, d.place, d.ordering_key,
              -- One that is tried again was let through before.
              d.ordering_key IS NULL OR EXISTS (
                  SELECT FROM {schema}.job_gate g
                  WHERE g.namespace = d.namespace AND g.ordering_key = d.ordering_key AND g.id = d.id) AS free
), ready AS (
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(g.route, hashtextextended(g.kind, hashtextextended(g.queue,
               hashtextextended(g.namespace, 0)))),
           g.namespace, g.queue, g.kind, g.route, false, g.rank, g.run_at, g.id, g.token, g.place
    FROM gone g
    WHERE g.free
), held AS (
    INSERT INTO {schema}.job_held (namespace, queue, kind, route, rank, run_at, id, token, place, ordering_key)
    SELECT g.namespace, g.queue, g.kind, g.route, g.rank, g.run_at, g.id, g.token, g.place, g.ordering_key
    FROM gone g
    WHERE NOT g.free
), arrived AS (
    INSERT INTO {schema}.job_arrived (namespace, ordering_key)
    SELECT DISTINCT g.namespace, g.ordering_key
    FROM gone g
    WHERE NOT g.free
), counted AS MATERIALIZED (
    SELECT count(*) AS jobs, max(g.run_at) AS latest, clock_timestamp() AS ended FROM gone g
)
SELECT c.jobs, c.latest, extract(epoch FROM c.ended - t.began)::double precision AS took, t.now, q.namespace, q.queue
FROM time t
CROSS JOIN counted c
LEFT JOIN (SELECT DISTINCT g.namespace, g.queue FROM gone g WHERE g.free) q ON true

-- step: next
SELECT (SELECT l.run_at FROM {schema}.job_later l WHERE l.run_at >= $1::timestamptz ORDER BY l.run_at, l.id LIMIT 1),
       EXISTS (SELECT FROM {schema}.job_arrived)

-- step: chores
SELECT (SELECT l.run_at FROM {schema}.job_later l WHERE l.run_at >= $1::timestamptz ORDER BY l.run_at, l.id LIMIT 1),
       EXISTS (SELECT FROM {schema}.job_arrived),
       EXISTS (SELECT FROM {schema}.session s WHERE s.expires_at <= {clock})
           OR EXISTS (SELECT FROM {schema}.job_claim c
                      WHERE NOT EXISTS (SELECT FROM {schema}.session s WHERE s.id = c.session))
           OR EXISTS (SELECT FROM {schema}.job_permit p
                      WHERE NOT EXISTS (SELECT FROM {schema}.session s WHERE s.id = p.session)),
       {clock}

-- step: admit
{bound}WITH turn AS MATERIALIZED (
    -- Not where a queue has been set to something else since this statement began to look: whoever comes next does it.
    SELECT true AS mine
    FROM {bounded}(SELECT b.taken_at FROM {schema}.job_turn b LIMIT 1) b
    JOIN {schema}.job_turn t ON t.taken_at IS NOT DISTINCT FROM b.taken_at
    LIMIT 1
    FOR UPDATE OF t SKIP LOCKED
), change AS MATERIALIZED (
    SELECT c.*
    FROM turn
    CROSS JOIN LATERAL (
        SELECT a.ctid AS at, a.namespace, a.ordering_key
        FROM {schema}.job_arrived a
        LIMIT $1::bigint
        FOR UPDATE OF a SKIP LOCKED
    ) c
), looked AS (
    DELETE FROM {schema}.job_arrived a
    USING change c
    WHERE a.ctid = c.at
    RETURNING c.namespace, c.ordering_key
), keyed AS MATERIALIZED (
    SELECT q.namespace, q.queue, q.key_concurrency AS most
    FROM {schema}.job_queue q
    WHERE q.key_concurrency > 1
), key AS MATERIALIZED (
    SELECT k.namespace, k.ordering_key, m.most
    FROM (SELECT DISTINCT l.namespace, l.ordering_key FROM looked l) k
    LEFT JOIN (SELECT q.namespace, max(q.most) AS most FROM keyed q GROUP BY q.namespace) m ON m.namespace = k.namespace
), room AS MATERIALIZED (
    -- One look into the index for each, however many gates there are. Who has let another through meanwhile has taken
    -- the first seat.
    SELECT k.namespace, k.ordering_key, 1 AS most, 0 AS jobs, 0 AS seat
    FROM key k
    WHERE k.most IS NULL
      AND (SELECT g.id FROM {schema}.job_gate g
           WHERE g.namespace = k.namespace AND g.ordering_key = k.ordering_key
           LIMIT 1) IS NULL
    UNION ALL
    SELECT k.namespace, k.ordering_key, least(k.most, t.most), t.jobs, t.seat
    FROM key k
    CROSS JOIN LATERAL {schema}.let_through(k.namespace, k.ordering_key) t
    WHERE k.most IS NOT NULL AND t.jobs < least(k.most, t.most)
), line AS MATERIALIZED (
    SELECT f.*, r.most, r.jobs, r.seat
    FROM room r
    CROSS JOIN LATERAL (
        SELECT w.ctid AS at, w.namespace, w.queue, w.kind, w.route, w.rank, w.run_at, w.id, w.token, w.place,
               w.ordering_key
        FROM {schema}.job_held w
        -- A range, and not equals, as in job.claim.
        WHERE (w.namespace, w.ordering_key) >= (r.namespace, r.ordering_key)
          AND (w.namespace, w.ordering_key) <= (r.namespace, r.ordering_key)
        ORDER BY w.namespace, w.ordering_key, w.rank, w.run_at, w.id
        LIMIT r.most - r.jobs
        FOR UPDATE OF w
    ) f
), next AS MATERIALIZED (
    -- A line stops at the first that may not go.
    SELECT p.*, p.seat + p.n AS seat_got
    FROM (
        SELECT l.*, row_number() OVER one AS n, min(coalesce(q.most, 1)) OVER one AS strictest
        FROM line l
        LEFT JOIN keyed q ON q.namespace = l.namespace AND q.queue = l.queue
        WINDOW one AS (PARTITION BY l.namespace, l.ordering_key ORDER BY l.rank, l.run_at, l.id)
    ) p
    WHERE p.jobs + p.n <= least(p.most, p.strictest)
), gate AS (
    INSERT INTO {schema}.job_gate (namespace, ordering_key, seat, id)
    SELECT n.namespace, n.ordering_key, n.seat_got, n.id
    FROM next n
    ON CONFLICT DO NOTHING
    RETURNING namespace, ordering_key, id
), through AS (
    -- Nearly always all of them have got their seat: then nobody is looked for.
    DELETE FROM {schema}.job_held w
    USING next n
    WHERE w.ctid = n.at
      AND ((SELECT count(*) FROM gate) = (SELECT count(*) FROM next)
           OR EXISTS (SELECT FROM gate g
                      WHERE g.namespace = n.namespace AND g.ordering_key = n.ordering_key AND g.id = n.id))
    RETURNING n.*
), ready AS (
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(t.route, hashtextextended(t.kind, hashtextextended(t.queue,
               hashtextextended(t.namespace, 0)))),
           t.namespace, t.queue, t.kind, t.route, false, t.rank, t.run_at, t.id, t.token, t.place
    FROM through t
)
SELECT (SELECT count(*) FROM looked), q.namespace, q.queue
FROM (SELECT true) one
LEFT JOIN (SELECT DISTINCT t.namespace, t.queue FROM through t) q ON true
