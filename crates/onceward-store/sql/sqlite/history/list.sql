-- history: the newest rows of one key, newest first.
-- ?1 subject, ?2 namespace, ?3 key, ?4 how many. By onceward_history_key.
SELECT event, token, actor, at, reason, claimed_at, claimed_by
FROM onceward_history
WHERE subject = ?1 AND namespace = ?2 AND key = ?3
ORDER BY id DESC
LIMIT ?4
