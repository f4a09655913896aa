-- once.settle in the caller's own transaction, on the caller's connection: the result commits with its effects. Only
-- results: a function that ended otherwise rolls back what it did, and its claim with it.
--
-- settle   ?1 namespace, ?2 key, ?3 token, ?4 boot_id, ?5 boottime now, ?6 wall clock now, ?7 body_type, ?8 body_size,
--          ?9 body. No row: stale.
-- history  ?1 namespace, ?2 key, ?3 wall clock now. Written from the row just settled; it tells of the claim's
--          beginning unless an earlier row did, when the claim became uncertain.
-- Both by the primary key.

-- step: settle
UPDATE onceward_once
SET state = 'done',
    late = boot_id <> ?4 OR expires_boot <= ?5,
    finished_at = ?6,
    retain_until = ?6 + retain_us,
    reason = NULL, body_type = ?7, body_size = ?8, body = ?9
WHERE namespace = ?1 AND key = ?2 AND token = ?3 AND state IN ('running', 'uncertain')
RETURNING late

-- step: history
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
SELECT 'once', namespace, key, 'done', token, owner, ?3, reason,
    CASE WHEN uncertain_at IS NULL OR uncertain_at <= claimed_at THEN claimed_at END
FROM onceward_once
WHERE namespace = ?1 AND key = ?2
