-- once.claim in the caller's own transaction: the steps in this order, on the caller's connection.
-- The first one takes the write lock, so read the clocks after it has been got: the parameters of `claim` are new.
--
-- lock    ?1 namespace, ?2 key. Changes nothing, but takes the write lock.
-- clocks  What is known about them (N16).
-- ended   ?1 namespace, ?2 key, ?3 boot_id, ?4 boottime now, ?5 wall clock now, ?6 owner, ?7 fingerprint or NULL,
--         ?8 restartable (0 or 1), ?9 the time up to which outcomes may be forgotten. The history of what `claim` is
--         going to overwrite; nothing for a new key.
-- claim   ?1 to ?9 as `ended`, ?10 session, ?11 expires_at, ?12 expires_boot, ?13 hard_expires_boot or NULL,
--         ?14 ttl_us, ?15 retain_us. No row: somebody else has the key or had it, so `read` it.
-- read    ?1 namespace, ?2 key.
-- All by the primary key.

-- step: lock
UPDATE onceward_once
SET token = token
WHERE namespace = ?1 AND key = ?2

-- step: clocks
SELECT boot_id, wall_offset, doubted_offset, doubted_since
FROM onceward_meta
WHERE id = 1

-- step: ended
INSERT INTO onceward_history (subject, namespace, key, event, token, actor, at, reason, claimed_at)
SELECT 'once', namespace, key, 'expired', token, owner, min(expires_at, ?5),
    'the claim ran out: its holder died, was paused, or met its hard limit', claimed_at
FROM onceward_once
WHERE namespace = ?1 AND key = ?2 AND ?8 AND state = 'running' AND (boot_id <> ?3 OR expires_boot <= ?4)
    AND (fingerprint IS NULL OR ?7 IS NULL OR fingerprint = ?7)
UNION ALL
SELECT 'once', namespace, key, CASE state WHEN 'released' THEN 'not_started' ELSE state END, token, owner,
    finished_at, reason, claimed_at
FROM onceward_once
WHERE namespace = ?1 AND key = ?2 AND untold AND (state = 'released' OR retain_until <= ?9)
UNION ALL
SELECT 'once', namespace, key, CASE WHEN state IN ('done', 'failed') THEN 'retired' ELSE 'restarted' END, token, ?6,
    ?5, NULL, NULL
FROM onceward_once
WHERE namespace = ?1 AND key = ?2 AND (
    (state IN ('done', 'failed') AND retain_until <= ?9)
    OR (?8 AND (fingerprint IS NULL OR ?7 IS NULL OR fingerprint = ?7)
        AND (state = 'uncertain' OR (state = 'running' AND (boot_id <> ?3 OR expires_boot <= ?4))))
)

-- step: claim
INSERT INTO onceward_once AS row (
    namespace, key, state, token, owner, session, attempts, fingerprint, claimed_at, expires_at, expires_boot,
    hard_expires_boot, boot_id, ttl_us, retain_us, late, untold
) VALUES (?1, ?2, 'running', ?5, ?6, ?10, 1, ?7, ?5, ?11, ?12, ?13, ?3, ?14, ?15, 0, 0)
ON CONFLICT (namespace, key) DO UPDATE
SET state = 'running', token = max(row.token + 1, ?5), owner = ?6, session = ?10, attempts = row.attempts + 1,
    fingerprint = ?7, claimed_at = ?5, expires_at = ?11, expires_boot = ?12, hard_expires_boot = ?13, boot_id = ?3,
    ttl_us = ?14, retain_us = ?15, finished_at = NULL, retain_until = NULL, late = 0,
    -- Whoever runs what is in doubt once more inherits the doubt, until there is an outcome.
    uncertain_at = CASE row.state
        WHEN 'running' THEN min(ifnull(row.uncertain_at, row.expires_at), ?5)
        WHEN 'uncertain' THEN min(row.uncertain_at, ?5)
    END,
    reason = CASE row.state
        WHEN 'running' THEN 'the claim ran out: its holder died, was paused, or met its hard limit'
        WHEN 'uncertain' THEN row.reason
    END,
    body_type = NULL, body_size = NULL, body = NULL, untold = 0
WHERE row.state = 'released'
    OR (row.state IN ('done', 'failed') AND row.retain_until <= ?9)
    OR (?8 AND (row.fingerprint IS NULL OR ?7 IS NULL OR row.fingerprint = ?7)
        AND (row.state = 'uncertain' OR (row.state = 'running' AND (row.boot_id <> ?3 OR row.expires_boot <= ?4))))
RETURNING token, attempts

-- step: read
SELECT state, token, owner, session, attempts, fingerprint, claimed_at, expires_at, expires_boot,
    hard_expires_boot, boot_id, ttl_us, retain_us, uncertain_at, finished_at, retain_until, late, reason, body_type,
    body_size, body
FROM onceward_once
WHERE namespace = ?1 AND key = ?2
