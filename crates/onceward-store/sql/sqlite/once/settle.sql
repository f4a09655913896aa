-- once.settle: record how a function ended, if the token is still the row's and no outcome is recorded.
-- The write lock is held; the rules of the core decide over what was read, and these steps write it down. No RETURNING
-- and no INSERT from SELECT here: for those SQLite would copy every page it changes, in case they fail half way.
--
-- read     ?1 namespace, ?2 key. By the index of the key; the last column is the rowid for `settle`.
-- settle   ?1 rowid, ?2 token, ?3 state, ?4 late, ?5 uncertain_at, ?6 finished_at, ?7 retain_until, ?8 reason,
--          ?9 body_type, ?10 body_size, ?11 body, ?12 untold. By the rowid.
-- history  ?1 namespace, ?2 key, ?3 event, ?4 token, ?5 actor, ?6 at, ?7 reason, ?8 claimed_at, ?9 claimed_by. Where the
--          row does not tell it itself: of a doubt, which another outcome may follow.

-- step: read
SELECT state, token, owner, session, attempts, fingerprint, claimed_at, expires_at, expires_boot,
    hard_expires_boot, boot_id, ttl_us, retain_us, uncertain_at, finished_at, retain_until, late, reason, body_type,
    body_size, body, rowid
FROM onceward_once
WHERE namespace = ?1 AND key = ?2

-- step: settle
UPDATE onceward_once
SET state = ?3, late = ?4, uncertain_at = ?5, finished_at = ?6, retain_until = ?7, reason = ?8, body_type = ?9,
    body_size = ?10, body = ?11, untold = ?12
WHERE rowid = ?1 AND token = ?2 AND state IN ('running', 'uncertain')

-- step: history
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at, claimed_by)
VALUES ('once', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
