-- session.list: every session, the oldest first, with how many jobs each holds.
--
-- Rows: id, owner, token, started_at, seen_at, expires_at, ttl_ms, draining, about, now, running; one row of NULLs but
-- for now if there is none.
-- Reads the table and the claims: there are few of both. Index: job_pkey (namespace, id).

WITH running AS MATERIALIZED (
    SELECT c.session, count(*) AS jobs
    FROM {schema}.job_claim c
    CROSS JOIN LATERAL unnest(c.jobs) AS held (id)
    JOIN {schema}.job j ON j.namespace = c.namespace AND j.id = held.id AND j.token < c.token
    GROUP BY c.session
)
SELECT s.id, s.owner, s.token, s.started_at, s.seen_at, s.expires_at, s.ttl_ms, s.draining, s.about, t.now,
       coalesce(r.jobs, 0) AS running
FROM (SELECT {clock} AS now) t
LEFT JOIN {schema}.session s ON true
LEFT JOIN running r ON r.session = s.id
ORDER BY s.started_at, s.id
