-- once.claim: take the right to run a key, or see what became of it.
-- The write lock is held; the rules of the core decide over what was read, and these steps write it down.
--
-- insert   ?1 namespace, ?2 key, ?3 token, ?4 owner, ?5 session, ?6 attempts, ?7 fingerprint, ?8 claimed_at,
--          ?9 expires_at, ?10 expires_boot, ?11 hard_expires_boot, ?12 boot_id, ?13 ttl_us, ?14 retain_us,
--          ?15 uncertain_at and ?16 reason, both NULL. No row changed: the key was used before, so read it.
-- read     ?1 namespace, ?2 key.
-- told     ?1 namespace, ?2 key. Writes the history of the outcome that `reclaim` is going to overwrite.
-- reclaim  as insert, with the doubt it inherits in ?15 and ?16, and ?17 the token that was read.
-- expire   ?1 namespace, ?2 key, ?3 token, ?4 uncertain_at, ?5 reason. The first to see that a claim ran out.
-- history  ?1 namespace, ?2 key, ?3 event, ?4 token, ?5 actor, ?6 at, ?7 reason, ?8 claimed_at, ?9 claimed_by.
-- All by the primary key.

-- step: insert
INSERT INTO onceward_once (
    namespace, key, state, token, owner, session, attempts, fingerprint, claimed_at, expires_at, expires_boot,
    hard_expires_boot, boot_id, ttl_us, retain_us, uncertain_at, reason, late, untold
) VALUES (?1, ?2, 'running', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, 0, 0)
ON CONFLICT (namespace, key) DO NOTHING

-- step: read
SELECT state, token, owner, session, attempts, fingerprint, claimed_at, expires_at, expires_boot,
    hard_expires_boot, boot_id, ttl_us, retain_us, uncertain_at, finished_at, retain_until, late, reason, body_type,
    body_size, body
FROM onceward_once
WHERE namespace = ?1 AND key = ?2

-- step: told
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
SELECT 'once', namespace, key, CASE state WHEN 'released' THEN 'not_started' ELSE state END, token, owner,
    finished_at, reason, claimed_at
FROM onceward_once
WHERE namespace = ?1 AND key = ?2 AND untold

-- step: reclaim
UPDATE onceward_once
SET state = 'running', token = ?3, owner = ?4, session = ?5, attempts = ?6, fingerprint = ?7, claimed_at = ?8,
    expires_at = ?9, expires_boot = ?10, hard_expires_boot = ?11, boot_id = ?12, ttl_us = ?13, retain_us = ?14,
    uncertain_at = ?15, finished_at = NULL, retain_until = NULL, late = 0, reason = ?16, body_type = NULL,
    body_size = NULL, body = NULL, untold = 0
WHERE namespace = ?1 AND key = ?2 AND token = ?17

-- step: expire
UPDATE onceward_once
SET state = 'uncertain', uncertain_at = ?4, reason = ?5
WHERE namespace = ?1 AND key = ?2 AND token = ?3 AND state = 'running'

-- step: history
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at, claimed_by)
VALUES ('once', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
