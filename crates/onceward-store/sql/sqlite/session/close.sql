-- session.close, by the primary key, and by onceward_job_claim_session.
--
-- end     ?1 id, ?2 token, ?3 boot_id, ?4 boottime now, ?5 wall clock now. It has run out from now on, and is cleared away
--         by a rescue, with what it still holds.
-- forget  ?1 id, ?2 token. One that holds nothing is of no interest to anybody.

-- step: end
UPDATE onceward_session
SET expires_at = ?5, expires_boot = ?4
WHERE id = ?1 AND token = ?2 AND boot_id = ?3 AND expires_boot > ?4

-- step: forget
DELETE FROM onceward_session
WHERE id = ?1 AND token = ?2 AND NOT EXISTS (SELECT 1 FROM onceward_job_claim WHERE session = ?1)
