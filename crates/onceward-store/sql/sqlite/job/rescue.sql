-- job.rescue: claims whose session has run out, or is not there. `any` is asked of a reader before, so that nothing lost
-- costs no lock.
--
-- any     ?1 boot_id, ?2 boottime now. Sessions and claims are few: each is looked at.
-- claims  as any. The oldest token first.
-- owner   ?1 session.
-- noted   ?1 namespace, ?2 id. Whether somebody has called the job off.
-- gone    as any. Sessions that have run out and hold nothing any more.

-- step: any
SELECT EXISTS (SELECT 1 FROM onceward_session WHERE boot_id <> ?1 OR expires_boot <= ?2)
    OR EXISTS (
        SELECT 1
        FROM onceward_job_claim AS claim
        WHERE NOT EXISTS (SELECT 1 FROM onceward_session AS session WHERE session.id = claim.session)
    )

-- step: claims
SELECT claim.id, claim.namespace, claim.session, claim.token, claim.claimed_at, claim.jobs
FROM onceward_job_claim AS claim
WHERE NOT EXISTS (
    SELECT 1
    FROM onceward_session AS session
    WHERE session.id = claim.session AND session.boot_id = ?1 AND session.expires_boot > ?2
)

-- step: owner
SELECT owner FROM onceward_session WHERE id = ?1

-- step: noted
SELECT EXISTS (SELECT 1 FROM onceward_job_cancel WHERE namespace = ?1 AND id = ?2)

-- step: gone
DELETE FROM onceward_session
WHERE (boot_id <> ?1 OR expires_boot <= ?2)
    AND NOT EXISTS (SELECT 1 FROM onceward_job_claim AS claim WHERE claim.session = onceward_session.id)
