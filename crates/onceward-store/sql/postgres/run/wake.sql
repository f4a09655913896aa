-- run.wake: makes parked runs ready for which something has arrived that they don't know of.
--
-- What has arrived for runs that are over is removed.
-- Rows: the namespace and the queue of those that are ready now, once each; and the namespace and the id of those that
-- are not parked.
-- Somebody else's rows are passed over: he does the same.
-- woken: no statement, but a part of it and of run.tell: makes the jobs of `parked` ready, as of its `now`.
-- Indexes: run_inbox_new, job_pkey, job_later_due (run_at, id).

-- step: wake
WITH asked AS MATERIALIZED (
    SELECT DISTINCT i.namespace, i.run FROM {schema}.run_inbox i WHERE NOT i.noted
), new AS MATERIALIZED (
    SELECT a.namespace, a.run
    FROM asked a
    JOIN {schema}.job j ON j.namespace = a.namespace AND j.id = a.run
    WHERE j.state NOT IN ('dead', 'uncertain')
), over AS (
    -- What came too late for a run that is over is of no use to anybody.
    DELETE FROM {schema}.run_inbox i
    USING asked a
    WHERE i.namespace = a.namespace AND i.run = a.run
      AND NOT EXISTS (SELECT FROM {schema}.job j WHERE j.namespace = a.namespace AND j.id = a.run)
), failed AS (
    -- One that has failed may be tried again by somebody, and one that is paused goes on: it reads it then. Jobs are looked up by their ids: || '' keeps
    -- the planner from reading all that have failed by job_wanted.
    UPDATE {schema}.run_inbox i
    SET noted = true
    FROM asked a
    JOIN {schema}.job j ON j.namespace = a.namespace AND j.id = a.run
    WHERE i.namespace = a.namespace AND i.run = a.run AND NOT i.noted
      AND (j.state || '' IN ('dead', 'uncertain')
           OR j.paused_at IS NOT NULL
              AND NOT EXISTS (SELECT FROM {schema}.job_claim c
                              WHERE c.namespace = j.namespace AND j.id = ANY (c.jobs) AND c.token > j.token))
), parked AS MATERIALIZED (
    SELECT l.ctid AS at, j.ctid AS place, j.namespace, j.id, {clock} AS now
    FROM new i
    JOIN {schema}.job j ON j.namespace = i.namespace AND j.id = i.run
    JOIN {schema}.job_later l ON l.run_at = j.run_at AND l.id = j.id AND l.namespace = j.namespace
    -- One that was never taken up waits for its time, and for nothing else.
    WHERE j.state = 'scheduled' AND j.attempted_at IS NOT NULL
    FOR UPDATE OF l, j SKIP LOCKED
), {woken}
SELECT DISTINCT w.namespace, w.queue, NULL::uuid AS run FROM woken w
UNION ALL
SELECT i.namespace, NULL, i.run
FROM new i
WHERE NOT EXISTS (SELECT FROM parked p WHERE p.namespace = i.namespace AND p.id = i.run)

-- step: woken
gone AS (
    DELETE FROM {schema}.job_later l
    USING parked p
    WHERE l.ctid = p.at
), woken AS (
    UPDATE {schema}.job j
    SET state = 'ready', run_at = p.now
    FROM parked p
    WHERE j.ctid = p.place
    RETURNING j.namespace, j.queue, j.kind, coalesce(j.route, '') AS route, j.priority, j.run_at, j.id, j.token,
              j.ctid AS place
), ready AS (
    INSERT INTO {schema}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token, place)
    SELECT hashtextextended(w.route, hashtextextended(w.kind, hashtextextended(w.queue,
               hashtextextended(w.namespace, 0)))),
           w.namespace, w.queue, w.kind, w.route, false, - w.priority, w.run_at, w.id, w.token, w.place
    FROM woken w
)
