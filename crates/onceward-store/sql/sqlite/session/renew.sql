-- session.renew: only what has not run out; no row means lost. By the primary key.
--
-- renew   ?1 id, ?2 token, ?3 boot_id, ?4 boottime now, ?5 wall clock now.
-- noted   Jobs that somebody has called off: almost always none.
-- any     Whether any run is paused, by onceward_job_paused.
-- paused  ?1 namespace, ?2 id, ?3 token. Whether this one is, and runs under a claim with that token.
-- claims  ?1 session. What it holds, by onceward_job_claim_session; asked for only where something was called off or paused.

-- step: renew
UPDATE onceward_session
SET seen_at = ?5, expires_at = ?5 + ttl_us, expires_boot = ?4 + ttl_us
WHERE id = ?1 AND token = ?2 AND boot_id = ?3 AND expires_boot > ?4
RETURNING expires_at, draining

-- step: noted
SELECT namespace, id FROM onceward_job_cancel ORDER BY namespace, id

-- step: any
SELECT EXISTS (SELECT 1 FROM onceward_job INDEXED BY onceward_job_paused WHERE paused_at IS NOT NULL)

-- step: paused
SELECT EXISTS (
    SELECT 1
    FROM onceward_job INDEXED BY onceward_job_paused
    WHERE namespace = ?1 AND id = ?2 AND paused_at IS NOT NULL AND token < ?3 AND state NOT IN ('dead', 'uncertain')
)

-- step: claims
SELECT id, namespace, session, token, claimed_at, jobs FROM onceward_job_claim WHERE session = ?1
