-- once.settle in the caller's own transaction, on the caller's connection: the outcome commits with its effects.
--
-- settle   ?1 namespace, ?2 key, ?3 token, ?4 state (done or failed), ?5 boot_id, ?6 boottime now,
--          ?7 wall clock now, ?8 reason, ?9 body_type, ?10 body_size, ?11 body. No row: stale.
-- history  ?1 namespace, ?2 key, ?3 event, ?4 wall clock now. Written from the row just settled; it tells of the
--          claim's beginning unless an earlier row did, when the claim became uncertain.
-- Both by the primary key.

-- step: settle
UPDATE onceward_once
SET state = ?4,
    late = boot_id <> ?5 OR expires_boot <= ?6,
    finished_at = ?7,
    retain_until = ?7 + retain_us,
    reason = ?8, body_type = ?9, body_size = ?10, body = ?11
WHERE namespace = ?1 AND key = ?2 AND token = ?3 AND state IN ('running', 'uncertain')
RETURNING late

-- step: history
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
SELECT 'once', namespace, key, ?3, token, owner, ?4, reason,
    CASE WHEN uncertain_at IS NULL OR uncertain_at <= claimed_at THEN claimed_at END
FROM onceward_once
WHERE namespace = ?1 AND key = ?2
