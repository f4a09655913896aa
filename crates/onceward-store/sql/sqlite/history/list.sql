-- history: the newest rows of one key, newest first.
--
-- list  ?1 subject, ?2 namespace, ?3 key, ?4 how many. By onceward_history_key.
-- live  ?1 namespace, ?2 key. The newest of a once, if it stands in the row of the key still; by that row's index.

-- step: list
SELECT event, token, actor, at, reason, claimed_at, claimed_by
FROM onceward_history
WHERE subject = ?1 AND namespace = ?2 AND key = ?3
ORDER BY id DESC
LIMIT ?4

-- step: live
SELECT CASE state WHEN 'released' THEN 'not_started' ELSE state END, token, owner, finished_at, reason,
    claimed_at, NULL
FROM onceward_once
WHERE namespace = ?1 AND key = ?2 AND untold
