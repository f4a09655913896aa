-- session.close: ends a session. What it still holds is rescued as if it had run out.
--
-- $1 id  $2 token
-- Rows: one if there was such a session: whether it had not run out, and whether it has permits.
-- Indexes: session_pkey (id), job_claim_of_session, job_permit_of_session (session).

WITH held AS MATERIALIZED (
    SELECT s.id, s.expires_at
    FROM {schema}.session s
    WHERE s.id = $1::uuid AND s.token = $2::bigint
    FOR UPDATE OF s
), gone AS (
    DELETE FROM {schema}.session s
    USING held h
    WHERE s.id = h.id AND NOT EXISTS (SELECT FROM {schema}.job_claim c WHERE c.session = h.id)
    RETURNING s.id
), over AS (
    -- Whoever rescues its jobs wants to know whose they were.
    UPDATE {schema}.session s
    SET expires_at = least(h.expires_at, h.now)
    FROM (SELECT held.*, {clock} AS now FROM held) h
    WHERE s.id = h.id AND EXISTS (SELECT FROM {schema}.job_claim c WHERE c.session = h.id)
)
SELECT h.expires_at > {clock}, EXISTS (SELECT FROM {schema}.job_permit p WHERE p.session = h.id)
FROM held h
