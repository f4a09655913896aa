-- once.resolve: settle what nobody knows, under a new token.
-- The write lock is held and the row was read and found uncertain (once/claim, steps read, expire and history).
-- ?1 namespace, ?2 key, ?3 the token that was read, ?4 the new token, ?5 state, ?6 wall clock now, ?7 reason,
-- ?8 body_type, ?9 body_size, ?10 body. By the primary key.
UPDATE onceward_once
SET token = ?4, state = ?5, finished_at = ?6, retain_until = ?6 + retain_us, reason = ?7, body_type = ?8,
    body_size = ?9, body = ?10
WHERE namespace = ?1 AND key = ?2 AND token = ?3 AND state = 'uncertain'
