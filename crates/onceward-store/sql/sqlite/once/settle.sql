-- once.settle: record how a function ended, if the token is still the row's and no outcome is recorded.
--
-- settle   ?1 namespace, ?2 key, ?3 token, ?4 state, ?5 boot_id, ?6 boottime now, ?7 wall clock now, ?8 reason,
--          ?9 body_type, ?10 body_size, ?11 body. No row: stale, or recorded before; `read` tells.
-- history  ?1 namespace, ?2 key, ?3 event, ?4 wall clock now. Written from the row just settled; it tells of the
--          claim's beginning unless an earlier row did, when the claim became uncertain.
-- read     ?1 namespace, ?2 key.
-- All by the primary key.

-- step: settle
UPDATE onceward_once
SET state = ?4,
    late = boot_id <> ?5 OR expires_boot <= ?6,
    uncertain_at = CASE WHEN ?4 = 'uncertain' THEN ?7 ELSE uncertain_at END,
    finished_at = CASE WHEN ?4 <> 'uncertain' THEN ?7 END,
    retain_until = CASE WHEN ?4 <> 'uncertain' THEN ?7 + retain_us END,
    reason = ?8, body_type = ?9, body_size = ?10, body = ?11
WHERE namespace = ?1 AND key = ?2 AND token = ?3
    AND (state = 'running' OR (state = 'uncertain' AND ?4 <> 'uncertain'))
RETURNING late

-- step: history
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
SELECT 'once', namespace, key, ?3, token, owner, ?4, reason,
    CASE WHEN state = 'uncertain' OR uncertain_at IS NULL THEN claimed_at END
FROM onceward_once
WHERE namespace = ?1 AND key = ?2

-- step: read
SELECT token, state
FROM onceward_once
WHERE namespace = ?1 AND key = ?2
