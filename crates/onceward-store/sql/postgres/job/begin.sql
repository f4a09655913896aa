-- job.begin: writes down that handlers start. A session that has run out begins nothing.
--
-- $1 namespace[]  $2 id[]  $3 token[]  $4 session[]; one job each, sorted by (namespace, id)
-- Rows: n (place in the arrays, from 1); only of those that may start.
-- The session is locked for key share, so that a rescue passes over it until this is committed, and its expiry is
-- looked at after that.
-- Indexes: session_pkey (id), job_pkey (namespace, id), job_key_pkey.

{bound}WITH ask AS MATERIALIZED (
    SELECT a.*
    FROM {bounded}unnest($1::text[], $2::uuid[], $3::bigint[], $4::uuid[]) WITH ORDINALITY
        AS a (namespace, id, token, session, n)
), alive AS MATERIALIZED (
    SELECT s.id, s.expires_at
    FROM (SELECT DISTINCT ask.session FROM ask) a
    JOIN {schema}.session s ON s.id = a.session
    FOR KEY SHARE OF s
), begun AS (
    UPDATE {schema}.job j
    SET begun = a.token
    FROM ask a
    JOIN (SELECT alive.*, {clock} AS now FROM alive) s ON s.id = a.session AND s.expires_at > s.now
    WHERE j.namespace = a.namespace AND j.id = a.id AND j.token < a.token
    RETURNING a.n, j.namespace, j.id, j.dedupe_key, 'dedupe'::text AS purpose
), freed AS (
    DELETE FROM {schema}.job_key k
    USING begun b
    WHERE b.dedupe_key IS NOT NULL AND k.namespace = b.namespace AND k.purpose = b.purpose AND k.key = b.dedupe_key
      AND k.id = b.id AND k.until_started
)
SELECT b.n
FROM begun b
